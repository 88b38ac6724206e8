// What a batch may and may not do to the table.
#include "worker/sequence_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "worker/testing/batches.h"

namespace lockstep::worker {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint64_t kEpoch = 9;

SequenceLimits Limits() {
  return {.epoch = kEpoch,
          .kv_blocks = 8,
          .max_batch_tokens = 32,
          .max_sequences = 2,
          .context_tokens = 64,
          .vocab_size = 100};
}

v1::StepBatch FirstBatch(BatchComposer& composer) {
  composer.New(BatchComposer::Greedy(1, 20));
  v1::SequenceChunk& chunk = composer.Chunk(1, {5, 6, 7}, false);
  chunk.set_next_token_id(8);
  return composer.Take();
}

TEST(SequenceTableTest, LaysOutRowsPositionsAndBlocks) {
  SequenceTable table(Limits());
  BatchComposer composer(kEpoch);
  ASSERT_TRUE(table.Apply(FirstBatch(composer)).ok());
  composer.New(BatchComposer::Greedy(2, 4));
  composer.Chunk(1, std::vector<int32_t>(17, 9), true);
  composer.Chunk(2, {1, 2, 3, 4}, true);
  auto step = table.Apply(composer.Take());
  ASSERT_TRUE(step.ok()) << step.status();
  EXPECT_EQ(step->rows(), 21);
  EXPECT_EQ(step->positions[0], 3);
  EXPECT_EQ(step->positions[16], 19);
  EXPECT_EQ(step->positions[17], 0);
  ASSERT_EQ(step->sequences.size(), 2u);
  EXPECT_THAT(step->sequences[0].block_table, ElementsAre(0, 1));
  EXPECT_EQ(step->sequences[1].first_row, 17);
  ASSERT_EQ(step->samples.size(), 2u);
  EXPECT_EQ(step->samples[0].row, 16);
  EXPECT_EQ(step->samples[0].position, 20);
}

TEST(SequenceTableTest, ScoresEveryPromptTokenButTheFirstOnce) {
  SequenceTable table(Limits());
  BatchComposer composer(kEpoch);
  composer.New(BatchComposer::Greedy(1, 5));
  composer.Chunk(1, {10, 11}, false).set_next_token_id(12);
  auto first = table.Apply(composer.Take());
  ASSERT_TRUE(first.ok());
  // Re-prefilled beyond the prompt: positions 5 and 6 are output and not scored.
  composer.Chunk(1, {12, 13, 14, 15, 16}, true);
  auto second = table.Apply(composer.Take());
  ASSERT_TRUE(second.ok());
  auto targets = [](const Step& step) {
    std::vector<int32_t> ids;
    for (const auto& score : step.scores) ids.push_back(score.target);
    return ids;
  };
  EXPECT_THAT(targets(*first), ElementsAre(11, 12));
  EXPECT_EQ(first->score_ranges[0].first_position, 1);
  EXPECT_THAT(targets(*second), ElementsAre(13, 14));
  EXPECT_EQ(second->score_ranges[0].first_position, 3);
}

TEST(SequenceTableTest, TheTokenSampledLastNamesItsStep) {
  SequenceTable table(Limits());
  BatchComposer composer(kEpoch);
  composer.New(BatchComposer::Greedy(1, 2));
  composer.Chunk(1, {10, 11}, true);
  ASSERT_TRUE(table.Apply(composer.Take()).ok());
  ASSERT_TRUE(table.Apply(composer.Take()).ok());
  composer.Decode(1);
  auto step = table.Apply(composer.Take());
  ASSERT_TRUE(step.ok());
  ASSERT_EQ(step->pending.size(), 1u);
  EXPECT_EQ(step->pending[0].sampled_step, 1u);
  EXPECT_EQ(step->samples[0].position, 3);
}

TEST(SequenceTableTest, FreedBlocksAndIdsMakeRoom) {
  SequenceTable table(Limits());
  BatchComposer composer(kEpoch);
  ASSERT_TRUE(table.Apply(FirstBatch(composer)).ok());
  v1::StepBatch batch;
  batch.set_epoch(kEpoch);
  batch.set_step_id(2);
  batch.add_freed_sequence_ids(1);
  *batch.add_new_sequences() = BatchComposer::Greedy(2, 1);
  v1::SequenceChunk& chunk = *batch.add_chunks();
  chunk.set_sequence_id(2);
  chunk.add_token_ids(1);
  chunk.add_new_block_ids(0);
  EXPECT_TRUE(table.Apply(batch).ok());
  EXPECT_EQ(table.Find(1), nullptr);
  EXPECT_NE(table.Find(2), nullptr);
}

TEST(SequenceTableTest, EqualBatchesGiveEqualDigestsAndOthersDoNot) {
  SequenceTable a(Limits());
  SequenceTable b(Limits());
  SequenceTable c(Limits());
  BatchComposer composer(kEpoch);
  v1::StepBatch batch = FirstBatch(composer);
  ASSERT_TRUE(a.Apply(batch).ok() && b.Apply(batch).ok());
  EXPECT_EQ(a.Digest(), b.Digest());
  batch.mutable_chunks(0)->set_new_block_ids(0, 3);
  ASSERT_TRUE(c.Apply(batch).ok());
  EXPECT_NE(a.Digest(), c.Digest());
}

struct Refusal {
  std::string name;
  std::function<void(v1::StepBatch&)> spoil;
  std::string message;
};

class RefusalTest : public testing::TestWithParam<Refusal> {};

// Every case spoils this second batch, which is legal as it is.
v1::StepBatch SecondBatch() {
  BatchComposer composer(kEpoch);
  FirstBatch(composer);
  composer.New(BatchComposer::Greedy(2, 4));
  composer.Chunk(1, {20, 21}, true);
  composer.Chunk(2, {30, 31, 32, 33}, true);
  return composer.Take();
}

TEST_P(RefusalTest, SaysWhatMakesNoSense) {
  SequenceTable table(Limits());
  BatchComposer composer(kEpoch);
  ASSERT_TRUE(table.Apply(FirstBatch(composer)).ok());
  v1::StepBatch batch = SecondBatch();
  GetParam().spoil(batch);
  absl::Status status = table.Apply(batch).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().message));
}

TEST(SequenceTableTest, TheBatchThatTheRefusalsSpoilIsLegal) {
  SequenceTable table(Limits());
  BatchComposer composer(kEpoch);
  ASSERT_TRUE(table.Apply(FirstBatch(composer)).ok());
  EXPECT_TRUE(table.Apply(SecondBatch()).ok());
}

INSTANTIATE_TEST_SUITE_P(
    Refusals, RefusalTest,
    testing::Values(
        Refusal{"StaleEpoch", [](auto& b) { b.set_epoch(8); }, "epoch 8"},
        Refusal{"StepGap", [](auto& b) { b.set_step_id(3); }, "came after step 1"},
        Refusal{"FreedUnknown", [](auto& b) { b.add_freed_sequence_ids(7); }, "7 is not alive"},
        Refusal{"NewTwice", [](auto& b) { b.mutable_new_sequences(0)->set_sequence_id(1); },
                "alive already"},
        Refusal{"TooManySequences",
                [](auto& b) { *b.add_new_sequences() = BatchComposer::Greedy(3, 1); },
                "exceeds the 2"},
        Refusal{"PromptTooLong", [](auto& b) { b.mutable_new_sequences(0)->set_prompt_tokens(65); },
                "context of 64"},
        Refusal{"MissingSeed",
                [](auto& b) { b.mutable_new_sequences(0)->mutable_sampling()->clear_seed(); },
                "sampling parameter is lacking"},
        Refusal{
            "NegativeTemperature",
            [](auto& b) { b.mutable_new_sequences(0)->mutable_sampling()->set_temperature(-1); },
            "temperature -1"},
        Refusal{"NanTopP",
                [](auto& b) {
                  b.mutable_new_sequences(0)->mutable_sampling()->set_top_p(
                      std::numeric_limits<double>::quiet_NaN());
                },
                "top_p"},
        Refusal{"TopKBeyondVocabulary",
                [](auto& b) { b.mutable_new_sequences(0)->mutable_sampling()->set_top_k(101); },
                "top_k 101"},
        Refusal{"UnknownChunk", [](auto& b) { b.mutable_chunks(0)->set_sequence_id(55); },
                "55, which is not alive"},
        Refusal{"PositionGap", [](auto& b) { b.mutable_chunks(0)->set_first_position(4); },
                "came after 3 tokens"},
        Refusal{"TwoChunks",
                [](auto& b) {
                  v1::SequenceChunk again = b.chunks(0);
                  again.set_first_position(5);
                  *b.add_chunks() = again;
                },
                "two chunks"},
        Refusal{"NothingSampled", [](auto& b) { b.mutable_chunks(0)->clear_token_ids(); },
                "sampled none"},
        Refusal{"TokenOutOfRange", [](auto& b) { b.mutable_chunks(0)->set_token_ids(0, 100); },
                "token 100"},
        Refusal{"NegativeToken", [](auto& b) { b.mutable_chunks(0)->set_token_ids(0, -1); },
                "token -1"},
        Refusal{"NextTokenOutOfRange", [](auto& b) { b.mutable_chunks(0)->set_next_token_id(100); },
                "token 100"},
        Refusal{"BlockOutOfRange", [](auto& b) { b.mutable_chunks(1)->set_new_block_ids(0, 8); },
                "block 8 is not in"},
        Refusal{"BlockHeldAlready", [](auto& b) { b.mutable_chunks(1)->set_new_block_ids(0, 0); },
                "block 0 is held"},
        Refusal{"NoRoomInBlocks", [](auto& b) { b.mutable_chunks(1)->clear_new_block_ids(); },
                "0 blocks hold 0 tokens, 4 are needed"},
        Refusal{"TooManyRows",
                [](auto& b) {
                  for (int i = 0; i < 40; ++i) b.mutable_chunks(0)->add_token_ids(1);
                },
                "more than 32 rows"}),
    [](const testing::TestParamInfo<Refusal>& info) { return info.param.name; });

}  // namespace
}  // namespace lockstep::worker
