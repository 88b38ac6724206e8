// Schedule(): literal snapshots and the decisions that they must lead to. Properties over random
// ones are in scheduler_property_test.cc.
#include "coordinator/engine/scheduler.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lockstep::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// A decoding sequence of `rows` rows with just the blocks that they need.
RunningSequence Decoding(int64_t rows) {
  const int64_t blocks = (rows + 15) / 16;
  return {.rows = rows, .prefill_rows = 1, .blocks = blocks, .own_blocks = blocks};
}

RunningSequence Prefilling(int64_t rows, int64_t prefill_rows) {
  const int64_t blocks = (prefill_rows + 15) / 16;
  return {.rows = rows, .prefill_rows = prefill_rows, .blocks = blocks, .own_blocks = blocks};
}

ScheduleSnapshot Snapshot() {
  return {.step_id = 10, .max_batch_tokens = 64, .max_sequences = 8, .free_blocks = 100};
}

TEST(SchedulerTest, NothingToDoGivesAnEmptyDecision) { EXPECT_TRUE(Schedule(Snapshot()).empty()); }

TEST(SchedulerTest, AdmitsInOrderOfArrivalWithBlocksForThePrompt) {
  ScheduleSnapshot snapshot = Snapshot();
  snapshot.waiting = {{.tokens = 17}, {.tokens = 16}};
  const ScheduleDecision decision = Schedule(snapshot);
  EXPECT_THAT(decision.running, IsEmpty());
  EXPECT_THAT(decision.admitted,
              ElementsAre(ScheduledChunk{.index = 0, .rows = 17, .new_blocks = 2, .sample = true},
                          ScheduledChunk{.index = 1, .rows = 16, .new_blocks = 1, .sample = true}));
}

TEST(SchedulerTest, CutsAPromptAtTheBudgetAndSamplesOnlyAtItsEnd) {
  ScheduleSnapshot snapshot = Snapshot();
  snapshot.waiting = {{.tokens = 100}};
  EXPECT_THAT(Schedule(snapshot).admitted,
              ElementsAre(ScheduledChunk{.index = 0, .rows = 64, .new_blocks = 7}));
  snapshot.running = {Prefilling(64, 100)};
  snapshot.waiting = {{.tokens = 5}};
  const ScheduleDecision next = Schedule(snapshot);
  EXPECT_THAT(next.running, ElementsAre(ScheduledChunk{.index = 0, .rows = 36, .sample = true}));
  EXPECT_THAT(next.admitted,
              ElementsAre(ScheduledChunk{.index = 0, .rows = 5, .new_blocks = 1, .sample = true}));
}

TEST(SchedulerTest, AShortPromptDoesNotWaitForALongOne) {
  ScheduleSnapshot snapshot = Snapshot();
  snapshot.running = {Prefilling(64, 1000)};
  snapshot.free_blocks = 200;
  snapshot.waiting = {{.tokens = 500}, {.tokens = 20}, {.tokens = 40}, {.tokens = 12}};
  const ScheduleDecision decision = Schedule(snapshot);
  // Half of 64 rows is for those that end with it, the shortest first: 12 and 20.
  EXPECT_THAT(decision.running, ElementsAre(ScheduledChunk{.index = 0, .rows = 32}));
  EXPECT_THAT(decision.admitted,
              ElementsAre(ScheduledChunk{.index = 1, .rows = 20, .new_blocks = 2, .sample = true},
                          ScheduledChunk{.index = 3, .rows = 12, .new_blocks = 1, .sample = true}));
}

TEST(SchedulerTest, AShortPromptTakesNoRoomFromTheLongOnesThatItPasses) {
  ScheduleSnapshot snapshot = Snapshot();
  snapshot.running = {Prefilling(64, 1000)};
  snapshot.waiting = {{.tokens = 160}, {.tokens = 16}};
  // 10 blocks for the one that waits longer and one for the one that runs; then 1, and one for each
  // of two.
  snapshot.free_blocks = 12;
  EXPECT_THAT(Schedule(snapshot).admitted, IsEmpty());
  snapshot.free_blocks = 13;
  EXPECT_EQ(Schedule(snapshot).admitted.size(), 1u);
  snapshot.max_sequences = 2;
  EXPECT_THAT(Schedule(snapshot).admitted, IsEmpty()) << "its seat";
}

TEST(SchedulerTest, BeginsBehindTheSharedBlocks) {
  ScheduleSnapshot snapshot = Snapshot();
  snapshot.waiting = {{.tokens = 50, .shared_blocks = 3, .unheld_blocks = 2}};
  EXPECT_THAT(Schedule(snapshot).admitted,
              ElementsAre(ScheduledChunk{.index = 0, .rows = 2, .new_blocks = 1, .sample = true}));
  // Shared blocks that nobody holds are among the free ones.
  snapshot.free_blocks = 3;
  EXPECT_EQ(Schedule(snapshot).admitted.size(), 1u);
  snapshot.free_blocks = 2;
  EXPECT_TRUE(Schedule(snapshot).empty());
}

TEST(SchedulerTest, TheMoreUrgentPromptComesBeforeALessUrgentOneThatRuns) {
  ScheduleSnapshot snapshot = Snapshot();
  snapshot.running = {Prefilling(64, 1000)};
  snapshot.running[0].priority = 1;
  snapshot.waiting = {{.tokens = 100}};
  const ScheduleDecision decision = Schedule(snapshot);
  EXPECT_THAT(decision.admitted,
              ElementsAre(ScheduledChunk{.index = 0, .rows = 64, .new_blocks = 7}));
  EXPECT_THAT(decision.running, IsEmpty());
}

TEST(SchedulerTest, TheMoreUrgentTakesThePlaceOfTheLastOfTheLessUrgent) {
  ScheduleSnapshot snapshot = Snapshot();
  snapshot.max_sequences = 3;
  snapshot.running = {Decoding(5), Decoding(6), Decoding(7)};
  snapshot.running[1].priority = snapshot.running[2].priority = 4;
  snapshot.waiting = {{.tokens = 3, .priority = 2}};
  const ScheduleDecision decision = Schedule(snapshot);
  EXPECT_THAT(decision.preempted, ElementsAre(2));
  EXPECT_EQ(decision.running.size(), 2u);
  EXPECT_EQ(decision.admitted.size(), 1u);
  snapshot.waiting[0].priority = 4;
  EXPECT_THAT(Schedule(snapshot).preempted, IsEmpty()) << "an equal one waits its turn";
}

TEST(SchedulerTest, PreemptsNobodyForAnUrgentOneThatWouldNotFitEvenSo) {
  ScheduleSnapshot snapshot = Snapshot();
  snapshot.free_blocks = 1;
  snapshot.running = {Decoding(20), Decoding(30)};
  snapshot.running[1].priority = 4;
  snapshot.waiting = {{.tokens = 64, .priority = 2}};
  EXPECT_THAT(Schedule(snapshot).preempted, IsEmpty());
}

TEST(SchedulerTest, WithStagesAPromptIsCutSoThatItsChunksKeepAllBusy) {
  ScheduleSnapshot snapshot = Snapshot();
  snapshot.max_batch_tokens = 2048;
  snapshot.free_blocks = 1000;
  snapshot.waiting = {{.tokens = 4096}};
  for (const auto& [pp_size, rows] : {std::pair(1, 2048), std::pair(2, 256), std::pair(4, 128)}) {
    snapshot.pp_size = pp_size;
    EXPECT_EQ(Schedule(snapshot).admitted.at(0).rows, rows) << pp_size;
  }
  snapshot.max_batch_tokens = 100;
  EXPECT_EQ(Schedule(snapshot).admitted.at(0).rows, 64);
}

TEST(SchedulerTest, DecodesComeBeforePrefillsAndPrefillsBeforeAdmission) {
  ScheduleSnapshot snapshot = Snapshot();
  snapshot.max_batch_tokens = 10;
  snapshot.running = {Prefilling(3, 9), Decoding(20), Prefilling(0, 30)};
  snapshot.waiting = {{.tokens = 40}};
  const ScheduleDecision decision = Schedule(snapshot);
  EXPECT_THAT(decision.running, ElementsAre(ScheduledChunk{.index = 1, .rows = 1, .sample = true},
                                            ScheduledChunk{.index = 0, .rows = 6, .sample = true},
                                            ScheduledChunk{.index = 2, .rows = 3}));
  EXPECT_THAT(decision.admitted, IsEmpty());
}

TEST(SchedulerTest, ADecodeGetsABlockExactlyAtABorder) {
  ScheduleSnapshot snapshot = Snapshot();
  snapshot.running = {Decoding(31), Decoding(32), Decoding(33)};
  EXPECT_THAT(Schedule(snapshot).running,
              ElementsAre(ScheduledChunk{.index = 0, .rows = 1, .new_blocks = 0, .sample = true},
                          ScheduledChunk{.index = 1, .rows = 1, .new_blocks = 1, .sample = true},
                          ScheduledChunk{.index = 2, .rows = 1, .new_blocks = 0, .sample = true}));
}

TEST(SchedulerTest, WaitsForRoomRatherThanLettingSmallerOnesPass) {
  ScheduleSnapshot snapshot = Snapshot();
  snapshot.free_blocks = 3;
  snapshot.waiting = {{.tokens = 60}, {.tokens = 1}};
  EXPECT_THAT(Schedule(snapshot).admitted, IsEmpty());
}

TEST(SchedulerTest, KeepsABlockForEachRunningSequenceWhenAdmitting) {
  ScheduleSnapshot snapshot = Snapshot();
  snapshot.running = {Decoding(5), Decoding(6)};
  snapshot.waiting = {{.tokens = 32}};
  snapshot.free_blocks = 3;
  EXPECT_THAT(Schedule(snapshot).admitted, IsEmpty());
  snapshot.free_blocks = 4;
  EXPECT_EQ(Schedule(snapshot).admitted.size(), 1u);
}

TEST(SchedulerTest, ThePoolsOnlySequenceMayTakeAllOfIt) {
  ScheduleSnapshot snapshot = Snapshot();
  snapshot.free_blocks = 4;
  snapshot.waiting = {{.tokens = 64}};
  EXPECT_EQ(Schedule(snapshot).admitted.size(), 1u);
}

TEST(SchedulerTest, AdmitsNoMoreThanMaxSequences) {
  ScheduleSnapshot snapshot = Snapshot();
  snapshot.max_sequences = 3;
  snapshot.running = {Decoding(5), Decoding(6)};
  snapshot.waiting = {{.tokens = 1}, {.tokens = 1}};
  EXPECT_EQ(Schedule(snapshot).admitted.size(), 1u);
}

TEST(SchedulerTest, PreemptsTheYoungestAndUsesItsBlocksInTheSameBatch) {
  ScheduleSnapshot snapshot = Snapshot();
  snapshot.free_blocks = 0;
  snapshot.running = {Decoding(16), Decoding(20), Decoding(30)};
  snapshot.waiting = {{.tokens = 1}};
  const ScheduleDecision decision = Schedule(snapshot);
  EXPECT_THAT(decision.preempted, ElementsAre(2));
  EXPECT_THAT(decision.running,
              ElementsAre(ScheduledChunk{.index = 0, .rows = 1, .new_blocks = 1, .sample = true},
                          ScheduledChunk{.index = 1, .rows = 1, .sample = true}));
  EXPECT_THAT(decision.admitted, IsEmpty());
}

TEST(SchedulerTest, TheYoungestGivesWayItselfWhenItIsTheOneInNeed) {
  ScheduleSnapshot snapshot = Snapshot();
  snapshot.free_blocks = 0;
  snapshot.running = {Decoding(20), Decoding(32)};
  const ScheduleDecision decision = Schedule(snapshot);
  EXPECT_THAT(decision.preempted, ElementsAre(1));
  EXPECT_THAT(decision.running, ElementsAre(ScheduledChunk{.index = 0, .rows = 1, .sample = true}));
}

TEST(SchedulerTest, PreemptionFreesNoSharedBlocks) {
  ScheduleSnapshot snapshot = Snapshot();
  snapshot.free_blocks = 0;
  snapshot.running = {Decoding(16), Decoding(20), Decoding(30)};
  snapshot.running[2].own_blocks = 0;
  EXPECT_THAT(Schedule(snapshot).preempted, ElementsAre(2, 1));
}

TEST(SchedulerTest, WaitsForASequenceThatEndsRatherThanPreempting) {
  ScheduleSnapshot snapshot = Snapshot();
  snapshot.free_blocks = 0;
  snapshot.running = {Decoding(16), Decoding(20)};
  snapshot.running[1].wants_sample = false;
  snapshot.running[1].samples_under_way = 1;
  EXPECT_TRUE(Schedule(snapshot).empty());
}

TEST(SchedulerTest, QueuesADecodeBehindTheRunningOneButNoThird) {
  ScheduleSnapshot snapshot = Snapshot();
  snapshot.outstanding_batches = 1;
  snapshot.running = {Decoding(5)};
  snapshot.running[0].samples_under_way = 1;
  snapshot.running[0].last_sample_step = 9;
  EXPECT_EQ(Schedule(snapshot).running.size(), 1u);
  snapshot.running[0].samples_under_way = 2;
  EXPECT_TRUE(Schedule(snapshot).empty());
}

TEST(SchedulerTest, DoesNotDecodePastMaxTokens) {
  ScheduleSnapshot snapshot = Snapshot();
  snapshot.running = {Decoding(5)};
  snapshot.running[0].samples_under_way = 1;
  snapshot.running[0].wants_sample = false;
  EXPECT_TRUE(Schedule(snapshot).empty());
}

TEST(SchedulerTest, StopsAtOneBatchMoreThanThereAreStages) {
  ScheduleSnapshot snapshot = Snapshot();
  snapshot.waiting = {{.tokens = 1}};
  for (int pp_size : {1, 2, 4}) {
    snapshot.pp_size = pp_size;
    snapshot.outstanding_batches = pp_size;
    EXPECT_FALSE(Schedule(snapshot).empty()) << pp_size;
    snapshot.outstanding_batches = pp_size + 1;
    EXPECT_TRUE(Schedule(snapshot).empty()) << pp_size;
  }
}

TEST(SchedulerTest, SpreadsDecodesOverTheStagesBatches) {
  ScheduleSnapshot snapshot = Snapshot();
  snapshot.pp_size = 2;
  snapshot.running = {Decoding(5), Decoding(6), Decoding(7), Decoding(8)};
  for (RunningSequence& sequence : snapshot.running) sequence.last_sample_step = 7;
  snapshot.running[1].last_sample_step = 5;
  snapshot.running[3].last_sample_step = 6;
  const ScheduleDecision decision = Schedule(snapshot);
  EXPECT_THAT(decision.running, ElementsAre(ScheduledChunk{.index = 1, .rows = 1, .sample = true},
                                            ScheduledChunk{.index = 3, .rows = 1, .sample = true}));
}

TEST(SchedulerTest, ASequenceInTheLastBatchSitsOutWhereOthersHaveWork) {
  ScheduleSnapshot snapshot = Snapshot();
  snapshot.pp_size = 2;
  snapshot.outstanding_batches = 1;
  snapshot.running = {Decoding(5), Decoding(6)};
  snapshot.running[0].samples_under_way = 1;
  snapshot.running[0].last_sample_step = 9;
  EXPECT_THAT(Schedule(snapshot).running,
              ElementsAre(ScheduledChunk{.index = 1, .rows = 1, .sample = true}));
  // Alone it is queued behind itself, so that no round trip to the coordinator comes between.
  snapshot.running.pop_back();
  EXPECT_THAT(Schedule(snapshot).running,
              ElementsAre(ScheduledChunk{.index = 0, .rows = 1, .sample = true}));
}

TEST(SchedulerTest, TakesTurnsWhenThereAreMoreDecodesThanRows) {
  ScheduleSnapshot snapshot = Snapshot();
  snapshot.max_batch_tokens = 2;
  snapshot.running = {Decoding(5), Decoding(6), Decoding(7)};
  snapshot.running[0].last_sample_step = 8;
  snapshot.running[1].last_sample_step = 9;
  snapshot.running[2].last_sample_step = 7;
  const ScheduleDecision decision = Schedule(snapshot);
  EXPECT_THAT(decision.running, ElementsAre(ScheduledChunk{.index = 0, .rows = 1, .sample = true},
                                            ScheduledChunk{.index = 2, .rows = 1, .sample = true}));
}

}  // namespace
}  // namespace lockstep::coordinator
