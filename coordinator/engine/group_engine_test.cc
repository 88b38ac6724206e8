// GroupEngine on a fake group that is stepped by hand: what a client gets, what the workers get,
// and what is left behind.
#include "coordinator/engine/group_engine.h"

#include <random>
#include <string>

#include "absl/time/clock.h"
#include "coordinator/engine/testing/collecting_sink.h"
#include "coordinator/engine/testing/fake_model.h"
#include "coordinator/engine/testing/fake_rank_group.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lockstep::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr absl::Duration kPatience = absl::Seconds(20);

GroupLimits Limits(uint64_t epoch = 1) {
  return {.epoch = epoch,
          .pp_size = 1,
          .kv_blocks = 64,
          .max_batch_tokens = 64,
          .max_sequences = 16,
          .context_tokens = 512};
}

EngineRequest MakeRequest(std::vector<int32_t> prompt, int64_t max_tokens, uint64_t seed = 7) {
  EngineRequest request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  request.sampling.set_temperature(1.0);
  request.sampling.set_top_k(0);
  request.sampling.set_top_p(1.0);
  request.sampling.set_seed(seed);
  return request;
}

std::vector<int32_t> Prompt(int64_t length, int32_t start = 1) {
  std::vector<int32_t> prompt;
  for (int64_t i = 0; i < length; ++i) prompt.push_back(static_cast<int32_t>((start + i * 5) % 64));
  return prompt;
}

// A request, and what it must give.
struct Case {
  EngineRequest request;
  std::shared_ptr<CollectingSink> sink = std::make_shared<CollectingSink>();
  std::optional<RequestId> id;

  std::vector<int32_t> expected(const FakeModel& model) const {
    return model.Generate(request.prompt, request.sampling.seed(), request.max_tokens,
                          request.stop_token_ids);
  }
};

class GroupEngineTest : public ::testing::Test {
 protected:
  std::shared_ptr<FakeRankGroup> Form(const GroupLimits& limits) {
    auto group = std::make_shared<FakeRankGroup>(limits, model_, engine_);
    engine_.OnGroupFormed(group);
    return group;
  }

  void Start(Case& test_case) {
    absl::StatusOr<RequestId> id = engine_.Submit(test_case.request, test_case.sink);
    ASSERT_TRUE(id.ok()) << id.status();
    test_case.id = *id;
  }

  // Of any length that fits 8 blocks, some with stop tokens.
  std::vector<Case> RandomCases(int count, uint64_t seed) {
    std::mt19937_64 random(seed);
    std::vector<Case> cases(count);
    for (Case& c : cases) {
      const int64_t length = 1 + static_cast<int64_t>(random() % 90);
      c.request = MakeRequest(Prompt(length, static_cast<int32_t>(random() % 64)),
                              1 + static_cast<int64_t>(random() % 38), random());
      if (random() % 2 == 0) c.request.stop_token_ids = {static_cast<int32_t>(random() % 64), 63};
    }
    return cases;
  }

  void ExpectComplete(const Case& test_case) {
    const std::optional<RequestOutcome> outcome = test_case.sink->outcome();
    ASSERT_TRUE(outcome.has_value());
    EXPECT_TRUE(outcome->status.ok()) << outcome->status;
    const std::vector<int32_t> expected = test_case.expected(model_);
    EXPECT_EQ(test_case.sink->tokens(), expected);
    EXPECT_EQ(outcome->completion_tokens, static_cast<int64_t>(expected.size()));
    EXPECT_EQ(outcome->prompt_tokens, static_cast<int64_t>(test_case.request.prompt.size()));
    const std::vector<int32_t>& stops = test_case.request.stop_token_ids;
    const bool stopped = std::find(stops.begin(), stops.end(), expected.back()) != stops.end();
    EXPECT_EQ(outcome->reason, stopped ? v1::FINISH_REASON_STOP : v1::FINISH_REASON_LENGTH);
    EXPECT_EQ(test_case.sink->updates_after_outcome(), 0);
  }

  void ExpectNothingLeft() {
    const EngineStats stats = engine_.Stats();
    EXPECT_EQ(stats.running_requests, 0);
    EXPECT_EQ(stats.waiting_requests, 0);
    EXPECT_EQ(stats.kv_blocks_used, 0);
  }

  FakeModel model_;
  GroupEngine engine_{EngineOptions{.max_queue = 100}};
};

TEST_F(GroupEngineTest, ARequestGetsTheModelsTokensUpToMaxTokens) {
  auto group = Form(Limits());
  Case c{.request = MakeRequest(Prompt(5), 20)};
  Start(c);
  group->RunUntilIdle();
  ExpectComplete(c);
  EXPECT_EQ(c.sink->tokens().size(), 20u);
  EXPECT_THAT(group->violations(), IsEmpty());
  ExpectNothingLeft();
}

TEST_F(GroupEngineTest, AStopTokenEndsTheOutputAndWhatOverranIsThrownAway) {
  auto group = Form(Limits());
  Case c{.request = MakeRequest(Prompt(5), 100)};
  c.request.stop_token_ids = {model_.Generate(c.request.prompt, 7, 9, {}).back()};
  Start(c);
  group->RunUntilIdle();
  ExpectComplete(c);
  EXPECT_EQ(c.sink->outcome()->reason, v1::FINISH_REASON_STOP);
  EXPECT_EQ(engine_.Stats().generated_tokens, static_cast<int64_t>(c.sink->tokens().size()));
  EXPECT_THAT(group->violations(), IsEmpty());
  ExpectNothingLeft();
}

TEST_F(GroupEngineTest, TheNextDecodeIsQueuedBeforeTheTokenIsKnown) {
  auto group = Form(Limits());
  Case c{.request = MakeRequest(Prompt(3), 20)};
  Start(c);
  const std::vector<v1::StepBatch> batches = group->outstanding_batches();
  ASSERT_EQ(batches.size(), 2u);
  EXPECT_EQ(batches[0].new_sequences_size(), 1);
  EXPECT_THAT(batches[0].chunks(0).token_ids(), ElementsAre(1, 6, 11));
  EXPECT_TRUE(batches[0].chunks(0).sample());
  EXPECT_EQ(batches[1].chunks(0).first_position(), 3u);
  EXPECT_THAT(batches[1].chunks(0).token_ids(), IsEmpty());
  EXPECT_TRUE(batches[1].chunks(0).sample());
}

TEST_F(GroupEngineTest, ChunksOfAPromptTravelInSuccessiveBatches) {
  GroupLimits limits = Limits();
  limits.pp_size = 4;
  auto group = Form(limits);
  Case c{.request = MakeRequest(Prompt(200), 2)};
  Start(c);
  std::vector<uint32_t> positions;
  std::vector<bool> samples;
  for (const v1::StepBatch& batch : group->outstanding_batches()) {
    positions.push_back(batch.chunks(0).first_position());
    samples.push_back(batch.chunks(0).sample());
  }
  EXPECT_THAT(positions, ElementsAre(0, 64, 128, 192, 200));
  EXPECT_THAT(samples, ElementsAre(false, false, false, true, true));
  group->RunUntilIdle();
  ExpectComplete(c);
  EXPECT_THAT(group->violations(), IsEmpty());
}

TEST_F(GroupEngineTest, KeepsOneBatchMoreOutstandingThanThereAreStages) {
  uint64_t epoch = 0;
  for (int pp_size : {1, 2, 4}) {
    GroupLimits limits = Limits(++epoch);
    limits.pp_size = pp_size;
    auto group = Form(limits);
    std::vector<Case> cases(8);
    for (Case& c : cases) {
      c.request = MakeRequest(Prompt(10), 50);
      Start(c);
    }
    for (int step = 0; step < 40; ++step) {
      ASSERT_EQ(group->outstanding(), pp_size + 1) << "pp " << pp_size << ", step " << step;
      group->Step();
    }
    group->RunUntilIdle();
    for (const Case& c : cases) ExpectComplete(c);
    EXPECT_EQ(group->most_outstanding(), pp_size + 1);
    EXPECT_THAT(group->violations(), IsEmpty());
    ExpectNothingLeft();
  }
}

TEST_F(GroupEngineTest, ManyRequestsEachGetWhatTheyGetAlone) {
  for (int pp_size : {1, 2, 3}) {
    GroupLimits limits = Limits(pp_size);
    limits.pp_size = pp_size;
    auto group = Form(limits);
    std::vector<Case> cases = RandomCases(90, 100 + pp_size);
    for (Case& c : cases) {
      Start(c);
      group->Step();
    }
    group->RunUntilIdle();
    for (const Case& c : cases) ExpectComplete(c);
    EXPECT_THAT(group->violations(), IsEmpty());
    ExpectNothingLeft();
  }
}

TEST_F(GroupEngineTest, PreemptionInASmallPoolChangesNoToken) {
  for (int pp_size : {1, 2}) {
    GroupLimits limits = Limits(pp_size);
    limits.pp_size = pp_size;
    limits.kv_blocks = 9;
    auto group = Form(limits);
    std::vector<Case> cases = RandomCases(60, 200 + pp_size);
    for (Case& c : cases) {
      c.request.max_tokens += 30 - static_cast<int64_t>(c.request.prompt.size()) / 4;
      Start(c);
    }
    const int64_t before = engine_.Stats().preemptions;
    group->RunUntilIdle();
    EXPECT_GT(engine_.Stats().preemptions, before) << "the pool was large enough";
    for (const Case& c : cases) ExpectComplete(c);
    EXPECT_THAT(group->violations(), IsEmpty());
    ExpectNothingLeft();
  }
}

TEST_F(GroupEngineTest, ALostGroupIsAPauseAndChangesNoToken) {
  auto group = Form(Limits(1));
  std::vector<Case> cases = RandomCases(30, 300);
  for (Case& c : cases) Start(c);
  for (uint64_t epoch = 2; epoch < 12; ++epoch) {
    for (int step = 0; step < 7; ++step) group->Step();
    EXPECT_THAT(group->violations(), IsEmpty());
    group->Lose();
    EXPECT_EQ(engine_.Stats().running_requests, 0);
    EXPECT_EQ(engine_.Stats().kv_blocks, 0);
    GroupLimits limits = Limits(epoch);
    limits.pp_size = static_cast<int>(epoch % 3) + 1;
    group = Form(limits);
  }
  group->RunUntilIdle();
  for (const Case& c : cases) ExpectComplete(c);
  EXPECT_THAT(group->violations(), IsEmpty());
  ExpectNothingLeft();
}

TEST_F(GroupEngineTest, AfterALossTheBorderOfThePromptStaysWhereItWas) {
  auto first = Form(Limits(1));
  Case c{.request = MakeRequest(Prompt(5), 20)};
  c.request.prompt_logprobs = 0;
  Start(c);
  for (int step = 0; step < 4; ++step) first->Step();
  first->Lose();
  auto second = Form(Limits(2));
  const v1::StepBatch batch = second->outstanding_batches().at(0);
  EXPECT_EQ(batch.step_id(), 1u);
  EXPECT_EQ(batch.epoch(), 2u);
  EXPECT_EQ(batch.new_sequences(0).prompt_tokens(), 5u);
  EXPECT_FALSE(batch.new_sequences(0).prompt_logprobs()) << "these were delivered already";
  EXPECT_EQ(batch.new_sequences(0).sampling().seed(), 7u);
  EXPECT_EQ(batch.chunks(0).token_ids_size(), 9);
}

TEST_F(GroupEngineTest, AnswersOfAnotherEpochAreDropped) {
  auto group = Form(Limits(5));
  Case c{.request = MakeRequest(Prompt(5), 3)};
  Start(c);
  v1::StepResult stale;
  stale.set_epoch(4);
  stale.set_step_id(1);
  engine_.OnStepDone(stale);
  engine_.OnGroupLost(4, absl::UnavailableError("stale"));
  EXPECT_EQ(engine_.Stats().outstanding_batches, 2);
  group->RunUntilIdle();
  ExpectComplete(c);
}

TEST_F(GroupEngineTest, CancelFreesTheBlocksAtOnceAndTellsTheWorkersWithTheNextBatch) {
  auto group = Form(Limits());
  Case c{.request = MakeRequest(Prompt(40), 50)};
  Case other{.request = MakeRequest(Prompt(4), 50)};
  Start(c);
  Start(other);
  for (int step = 0; step < 5; ++step) group->Step();
  const int64_t used = engine_.Stats().kv_blocks_used;
  engine_.Cancel(*c.id);
  EXPECT_EQ(engine_.Stats().kv_blocks_used, used - 3);
  EXPECT_TRUE(absl::IsCancelled(c.sink->outcome()->status));
  group->Step();
  EXPECT_THAT(group->outstanding_batches().back().freed_sequence_ids(), ElementsAre(1));
  group->RunUntilIdle();
  ExpectComplete(other);
  EXPECT_EQ(c.sink->updates_after_outcome(), 0);
  EXPECT_THAT(group->violations(), IsEmpty());
  ExpectNothingLeft();
  engine_.Cancel(*c.id);
}

TEST_F(GroupEngineTest, RandomCancelsLeaveNothingBehindAndDisturbNobody) {
  GroupLimits limits = Limits();
  limits.pp_size = 2;
  limits.kv_blocks = 20;
  auto group = Form(limits);
  std::mt19937_64 random(400);
  std::vector<Case> cases = RandomCases(80, 401);
  for (Case& c : cases) Start(c);
  while (group->Step()) {
    if (random() % 4 == 0) engine_.Cancel(*cases[random() % cases.size()].id);
  }
  int cancelled = 0;
  for (const Case& c : cases) {
    ASSERT_TRUE(c.sink->outcome().has_value());
    if (c.sink->outcome()->status.ok()) {
      ExpectComplete(c);
    } else {
      ++cancelled;
    }
  }
  EXPECT_GT(cancelled, 5);
  EXPECT_LT(cancelled, 75);
  EXPECT_THAT(group->violations(), IsEmpty());
  ExpectNothingLeft();
}

TEST_F(GroupEngineTest, RequestsQueueUntilAGroupForms) {
  Case c{.request = MakeRequest(Prompt(5), 5)};
  Start(c);
  EXPECT_EQ(engine_.Stats().waiting_requests, 1);
  Form(Limits())->RunUntilIdle();
  ExpectComplete(c);
}

TEST_F(GroupEngineTest, AFullQueueRefusesAtOnceWithTheNumbers) {
  std::vector<Case> cases(100);
  for (Case& c : cases) {
    c.request = MakeRequest(Prompt(5), 5);
    Start(c);
  }
  auto sink = std::make_shared<CollectingSink>();
  const absl::Status refused = engine_.Submit(MakeRequest(Prompt(5), 5), sink).status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("100 requests wait"));
  EXPECT_FALSE(sink->outcome().has_value());
}

TEST_F(GroupEngineTest, WhatNeverFitsIsRefusedWithTheNumbers) {
  GroupLimits limits = Limits();
  limits.kv_blocks = 4;
  Case early{.request = MakeRequest(Prompt(60), 6)};
  Start(early);
  auto group = Form(limits);
  EXPECT_TRUE(absl::IsOutOfRange(early.sink->outcome()->status));

  auto sink = std::make_shared<CollectingSink>();
  absl::Status refused = engine_.Submit(MakeRequest(Prompt(60), 6), sink).status();
  EXPECT_TRUE(absl::IsOutOfRange(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("room for 64"));
  refused = engine_.Submit(MakeRequest(Prompt(500), 13), sink).status();
  EXPECT_TRUE(absl::IsOutOfRange(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("room for 512"));

  Case exact{.request = MakeRequest(Prompt(60), 5)};
  Start(exact);
  group->RunUntilIdle();
  ExpectComplete(exact);
  EXPECT_THAT(group->violations(), IsEmpty());
}

TEST_F(GroupEngineTest, ARunningRequestTooLargeForASmallerGroupWaitsAndLetsOthersPass) {
  auto group = Form(Limits(1));
  Case large{.request = MakeRequest(Prompt(100), 10)};
  Case small{.request = MakeRequest(Prompt(10), 10)};
  Start(large);
  for (int step = 0; step < 4; ++step) group->Step();
  group->Lose();
  Start(small);
  GroupLimits limits = Limits(2);
  limits.kv_blocks = 4;
  group = Form(limits);
  group->RunUntilIdle();
  ExpectComplete(small);
  EXPECT_FALSE(large.sink->outcome().has_value());
  group->Lose();
  Form(Limits(3))->RunUntilIdle();
  ExpectComplete(large);
}

TEST_F(GroupEngineTest, ADeadlineEndsAWaitingRequestAsWellAsARunningOne) {
  Case waiting{.request = MakeRequest(Prompt(5), 5)};
  waiting.request.deadline = absl::Now() + absl::Milliseconds(5);
  Start(waiting);
  std::optional<RequestOutcome> outcome = waiting.sink->WaitForOutcome(kPatience);
  ASSERT_TRUE(outcome.has_value());
  EXPECT_TRUE(absl::IsDeadlineExceeded(outcome->status));

  auto group = Form(Limits());
  Case running{.request = MakeRequest(Prompt(5), 5)};
  running.request.deadline = absl::Now() + absl::Milliseconds(5);
  Start(running);
  outcome = running.sink->WaitForOutcome(kPatience);
  ASSERT_TRUE(outcome.has_value());
  EXPECT_TRUE(absl::IsDeadlineExceeded(outcome->status));
  group->RunUntilIdle();
  EXPECT_THAT(group->violations(), IsEmpty());
  ExpectNothingLeft();

  auto sink = std::make_shared<CollectingSink>();
  EngineRequest late = MakeRequest(Prompt(5), 5);
  late.deadline = absl::Now() - absl::Milliseconds(1);
  EXPECT_TRUE(absl::IsDeadlineExceeded(engine_.Submit(late, sink).status()));
}

TEST_F(GroupEngineTest, LogprobsOfPromptAndOutputAreCompleteDespiteChunksAndLoss) {
  auto group = Form(Limits(1));
  Case c{.request = MakeRequest(Prompt(150), 6)};
  c.request.logprobs = 0;
  c.request.prompt_logprobs = 0;
  Start(c);
  group->Step();
  group->Lose();
  group = Form(Limits(2));
  for (int step = 0; step < 4; ++step) group->Step();
  group->Lose();
  Form(Limits(3))->RunUntilIdle();
  ExpectComplete(c);
  EXPECT_EQ(c.sink->prompt_logprobs(), model_.PromptLogProbs(c.request.prompt));
  std::vector<int32_t> tokens = c.request.prompt;
  std::vector<float> expected;
  for (int32_t token : c.expected(model_)) {
    expected.push_back(model_.LogProb(tokens, token));
    tokens.push_back(token);
  }
  EXPECT_EQ(c.sink->logprobs(), expected);
}

TEST_F(GroupEngineTest, ARequestWithoutSeedDrawsOneAndReportsIt) {
  auto group = Form(Limits());
  std::vector<uint64_t> seeds;
  for (int i = 0; i < 2; ++i) {
    Case c{.request = MakeRequest(Prompt(5), 30)};
    c.request.sampling.clear_seed();
    Start(c);
    group->RunUntilIdle();
    c.request.sampling.set_seed(c.sink->outcome()->seed);
    ExpectComplete(c);
    seeds.push_back(c.sink->outcome()->seed);
  }
  EXPECT_NE(seeds[0], seeds[1]);
}

TEST_F(GroupEngineTest, AStepThatForgetsASequenceEndsItWithInternal) {
  auto group = Form(Limits());
  Case c{.request = MakeRequest(Prompt(5), 30)};
  Case other{.request = MakeRequest(Prompt(6), 30)};
  Start(c);
  Start(other);
  group->ForgetToken(1);
  group->RunUntilIdle();
  EXPECT_TRUE(absl::IsInternal(c.sink->outcome()->status));
  ExpectComplete(other);
  ExpectNothingLeft();
}

TEST_F(GroupEngineTest, ShutdownEndsAllAndTakesNoMore) {
  auto group = Form(Limits());
  std::vector<Case> cases = RandomCases(30, 500);
  for (Case& c : cases) Start(c);
  engine_.Shutdown();
  for (const Case& c : cases) EXPECT_TRUE(absl::IsUnavailable(c.sink->outcome()->status));
  group->RunUntilIdle();
  ExpectNothingLeft();
  auto sink = std::make_shared<CollectingSink>();
  EXPECT_TRUE(absl::IsUnavailable(engine_.Submit(MakeRequest(Prompt(5), 5), sink).status()));
}

}  // namespace
}  // namespace lockstep::coordinator
