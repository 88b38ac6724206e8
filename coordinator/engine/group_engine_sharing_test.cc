// What requests share and how they yield: the prefix cache, the choices of one request, sinks that
// have enough, priorities. On a fake group that is stepped by hand.
#include <algorithm>
#include <random>

#include "absl/time/clock.h"
#include "coordinator/engine/group_engine.h"
#include "coordinator/engine/testing/collecting_sink.h"
#include "coordinator/engine/testing/fake_model.h"
#include "coordinator/engine/testing/fake_rank_group.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lockstep::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

GroupLimits Limits(uint64_t epoch = 1) {
  return {.epoch = epoch,
          .pp_size = 1,
          .kv_blocks = 64,
          .max_batch_tokens = 64,
          .max_sequences = 16,
          .context_tokens = 512};
}

std::vector<int32_t> Prompt(int64_t length, int32_t start = 1) {
  std::vector<int32_t> prompt;
  for (int64_t i = 0; i < length; ++i) prompt.push_back(static_cast<int32_t>((start + i * 5) % 64));
  return prompt;
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

class SharingTest : public ::testing::Test {
 protected:
  void Make(EngineOptions options = {}) { engine_.emplace(options); }

  std::shared_ptr<FakeRankGroup> Form(const GroupLimits& limits) {
    auto group = std::make_shared<FakeRankGroup>(limits, model_, *engine_);
    engine_->OnGroupFormed(group);
    return group;
  }

  std::shared_ptr<CollectingSink> Start(const EngineRequest& request,
                                        std::optional<int32_t> last_token = std::nullopt) {
    auto sink = std::make_shared<CollectingSink>(last_token);
    absl::StatusOr<RequestId> id = engine_->Submit(request, sink);
    EXPECT_TRUE(id.ok()) << id.status();
    if (id.ok()) last_id_ = *id;
    return sink;
  }

  std::vector<int32_t> Expected(const EngineRequest& request, int choice = 0) const {
    return model_.Generate(request.prompt, FakeModel::ChoiceSeed(request.sampling.seed(), choice),
                           request.max_tokens, request.stop_token_ids);
  }

  void ExpectNothingLeft() const {
    const EngineStats stats = engine_->Stats();
    EXPECT_EQ(stats.running_requests, 0);
    EXPECT_EQ(stats.waiting_requests, 0);
    EXPECT_EQ(stats.kv_blocks_used, 0);
  }

  FakeModel model_;
  std::optional<GroupEngine> engine_;
  RequestId last_id_{};
};

TEST_F(SharingTest, ASecondRequestStartsBehindTheFirstOnesBlocks) {
  Make();
  auto group = Form(Limits());
  EngineRequest first = MakeRequest(Prompt(50), 10);
  Start(first);
  group->RunUntilIdle();
  EngineRequest second = first;
  second.prompt.push_back(3);
  auto sink = Start(second);
  const v1::StepBatch batch = group->outstanding_batches().at(0);
  EXPECT_THAT(batch.new_sequences(0).shared_block_ids(), SizeIs(3));
  EXPECT_EQ(batch.chunks(0).first_position(), 48u);
  EXPECT_THAT(batch.chunks(0).token_ids(), SizeIs(3));
  group->RunUntilIdle();
  EXPECT_EQ(sink->tokens(), Expected(second));
  EXPECT_EQ(sink->outcome()->cached_tokens, 48);
  EXPECT_EQ(engine_->Stats().cached_tokens, 48);
  EXPECT_THAT(group->violations(), IsEmpty());
  ExpectNothingLeft();
}

TEST_F(SharingTest, TheLastTokenOfAPromptIsAlwaysComputed) {
  Make();
  auto group = Form(Limits());
  const EngineRequest request = MakeRequest(Prompt(48), 5);
  Start(request);
  group->RunUntilIdle();
  auto sink = Start(request);
  EXPECT_EQ(group->outstanding_batches().at(0).chunks(0).first_position(), 32u);
  group->RunUntilIdle();
  EXPECT_EQ(sink->tokens(), Expected(request));
  EXPECT_THAT(group->violations(), IsEmpty());
}

TEST_F(SharingTest, OutputCanBeContinuedFromTheCache) {
  Make();
  auto group = Form(Limits());
  const EngineRequest first = MakeRequest(Prompt(20), 30);
  auto sink = Start(first);
  group->RunUntilIdle();
  EngineRequest second = first;
  const std::vector<int32_t> output = sink->tokens();
  second.prompt.insert(second.prompt.end(), output.begin(), output.end());
  sink = Start(second);
  group->RunUntilIdle();
  // Of 50 tokens the last one's keys and values were never computed.
  EXPECT_EQ(sink->outcome()->cached_tokens, 48);
  EXPECT_EQ(sink->tokens(), Expected(second));
}

TEST_F(SharingTest, BlocksAreSharedOnlyOnceTheirStepIsAnswered) {
  Make();
  const EngineRequest request = MakeRequest(Prompt(30), 5);
  Start(request);
  auto sink = Start(request);
  // Both are admitted into its first batch.
  auto group = Form(Limits());
  group->RunUntilIdle();
  EXPECT_EQ(sink->outcome()->cached_tokens, 0);
  EXPECT_EQ(sink->tokens(), Expected(request));
}

TEST_F(SharingTest, RequestsForPromptLogprobsBypassTheCache) {
  Make();
  auto group = Form(Limits());
  EngineRequest request = MakeRequest(Prompt(50), 5);
  Start(request);
  group->RunUntilIdle();
  request.prompt_logprobs = 2;
  request.logprobs = 3;
  auto sink = Start(request);
  group->RunUntilIdle();
  EXPECT_EQ(sink->outcome()->cached_tokens, 0);
  EXPECT_EQ(sink->prompt_logprobs(), model_.PromptLogProbs(request.prompt));
  ASSERT_THAT(sink->prompt_alternatives(), SizeIs(49));
  EXPECT_EQ(sink->prompt_alternatives()[7].token_ids(0), request.prompt[8]);
  ASSERT_THAT(sink->alternatives(), SizeIs(5));
  EXPECT_THAT(sink->alternatives()[4].token_ids(), ElementsAre(0, 1, 2));
  EXPECT_THAT(group->violations(), IsEmpty());
}

TEST_F(SharingTest, WithoutPrefixCachingRequestsShareNothing) {
  Make({.enable_prefix_caching = false});
  auto group = Form(Limits());
  const EngineRequest request = MakeRequest(Prompt(50), 5);
  Start(request);
  group->RunUntilIdle();
  auto sink = Start(request);
  group->RunUntilIdle();
  EXPECT_EQ(sink->outcome()->cached_tokens, 0);
}

TEST_F(SharingTest, PenaltiesAreToldTheSharedTokens) {
  Make();
  auto group = Form(Limits());
  EngineRequest request = MakeRequest(Prompt(50), 5);
  Start(request);
  group->RunUntilIdle();
  request.sampling.set_repetition_penalty(1.0);
  request.sampling.set_frequency_penalty(0.0);
  Start(request);
  EXPECT_THAT(group->outstanding_batches().at(0).new_sequences(0).shared_token_ids(), IsEmpty());
  group->RunUntilIdle();
  request.sampling.set_frequency_penalty(0.5);
  Start(request);
  EXPECT_THAT(group->outstanding_batches().at(0).new_sequences(0).shared_token_ids(), SizeIs(48));
  group->RunUntilIdle();
  EXPECT_THAT(group->violations(), IsEmpty());
}

TEST_F(SharingTest, EndTokensAreToldAsLongAsMinTokensForbidsThem) {
  Make();
  auto group = Form(Limits());
  EngineRequest request = MakeRequest(Prompt(5), 5);
  request.stop_token_ids = {90, 91};
  Start(request);
  EXPECT_THAT(group->outstanding_batches().at(0).new_sequences(0).end_token_ids(), IsEmpty());
  group->RunUntilIdle();
  request.sampling.set_min_tokens(3);
  Start(request);
  EXPECT_THAT(group->outstanding_batches().at(0).new_sequences(0).end_token_ids(),
              ElementsAre(90, 91));
}

TEST_F(SharingTest, ChoicesShareOnePrefillAndEachDrawsItsOwn) {
  for (bool caching : {true, false}) {
    Make({.enable_prefix_caching = caching});
    auto group = Form(Limits());
    EngineRequest request = MakeRequest(Prompt(100), 12);
    request.choices = 5;
    auto sink = Start(request);
    int64_t prefill_rows = 0;
    while (group->outstanding() > 0) {
      const v1::StepBatch batch = group->outstanding_batches().at(0);
      for (const v1::SequenceChunk& chunk : batch.chunks()) {
        prefill_rows += chunk.token_ids_size();
      }
      group->Step();
    }
    // The prompt once, and for each of the others the block of its last token.
    EXPECT_EQ(prefill_rows, 100 + 4 * (100 - 96)) << "caching " << caching;
    for (int choice = 0; choice < 5; ++choice) {
      EXPECT_EQ(sink->tokens(choice), Expected(request, choice)) << choice;
      EXPECT_EQ(sink->outcome(choice)->reason, v1::FINISH_REASON_LENGTH);
    }
    EXPECT_EQ(engine_->Stats().finished_requests, 1);
    EXPECT_THAT(group->violations(), IsEmpty());
    ExpectNothingLeft();
  }
}

TEST_F(SharingTest, CancelAndDeadlineEndAllChoicesAndFreeSharedBlocks) {
  for (bool by_deadline : {false, true}) {
    Make();
    auto group = Form(Limits());
    EngineRequest request = MakeRequest(Prompt(100), 200);
    request.choices = 3;
    if (by_deadline) request.deadline = absl::Now() + absl::Milliseconds(50);
    auto sink = Start(request);
    while (engine_->Stats().running_requests < 3 && group->Step()) {
    }
    if (!by_deadline) engine_->Cancel(last_id_);
    ASSERT_TRUE(sink->WaitForOutcome(absl::Seconds(20)).has_value());
    group->RunUntilIdle();
    for (int choice = 0; choice < 3; ++choice) {
      ASSERT_TRUE(sink->outcome(choice).has_value()) << choice;
      EXPECT_EQ(sink->outcome(choice)->status.code(),
                by_deadline ? absl::StatusCode::kDeadlineExceeded : absl::StatusCode::kCancelled);
    }
    EXPECT_THAT(group->violations(), IsEmpty());
    ExpectNothingLeft();
  }
}

TEST_F(SharingTest, ASinkThatHasEnoughEndsItsChoiceWithStopAndWhatOverranIsDropped) {
  Make();
  auto group = Form(Limits());
  EngineRequest request = MakeRequest(Prompt(40), 60);
  request.choices = 3;
  // One that choice 1 generates early.
  const int32_t last = Expected(request, 1).at(2);
  auto sink = Start(request, last);
  group->RunUntilIdle();
  for (int choice = 0; choice < 3; ++choice) {
    std::vector<int32_t> expected = Expected(request, choice);
    const auto end = std::find(expected.begin(), expected.end(), last);
    const bool stops = end != expected.end();
    if (stops) expected.erase(end + 1, expected.end());
    EXPECT_EQ(sink->tokens(choice), expected);
    EXPECT_EQ(sink->outcome(choice)->reason,
              stops && expected.size() < 60 ? v1::FINISH_REASON_STOP : v1::FINISH_REASON_LENGTH);
    EXPECT_EQ(sink->outcome(choice)->completion_tokens, static_cast<int64_t>(expected.size()));
  }
  EXPECT_EQ(sink->updates_after_outcome(), 0);
  EXPECT_THAT(group->violations(), IsEmpty());
  ExpectNothingLeft();
}

TEST_F(SharingTest, TheMoreUrgentPassesThoseThatWaitAndTakesThePlaceOfOneThatRuns) {
  Make();
  GroupLimits limits = Limits();
  limits.max_sequences = 2;
  auto group = Form(limits);
  std::vector<EngineRequest> requests;
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (int i = 0; i < 4; ++i) {
    requests.push_back(MakeRequest(Prompt(20, i), 30, 100 + i));
    sinks.push_back(Start(requests.back()));
  }
  for (int step = 0; step < 5; ++step) group->Step();
  EngineRequest urgent = MakeRequest(Prompt(20, 9), 5, 1);
  urgent.priority = -1;
  auto urgent_sink = Start(urgent);
  while (!urgent_sink->outcome()) ASSERT_TRUE(group->Step());
  EXPECT_EQ(engine_->Stats().preemptions, 1);
  EXPECT_FALSE(sinks[0]->outcome().has_value());
  EXPECT_TRUE(sinks[2]->tokens().empty()) << "a less urgent one came in between";
  group->RunUntilIdle();
  EXPECT_EQ(urgent_sink->tokens(), Expected(urgent));
  for (int i = 0; i < 4; ++i) EXPECT_EQ(sinks[i]->tokens(), Expected(requests[i])) << i;
  EXPECT_THAT(group->violations(), IsEmpty());
  ExpectNothingLeft();
}

// Prompts out of few pieces, several choices, priorities, small pools, cancels, stages: whatever is
// shared or preempted, each gets what it gets alone.
TEST_F(SharingTest, RandomRequestsThatShareMuchEachGetWhatTheyGetAlone) {
  int64_t cached = 0;
  int64_t preemptions = 0;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    std::mt19937_64 random(seed);
    Make();
    GroupLimits limits = Limits();
    limits.pp_size = 1 + static_cast<int>(seed % 3);
    limits.kv_blocks = 10 + static_cast<int64_t>(random() % 12);
    limits.max_sequences = 6;
    auto group = Form(limits);
    std::vector<EngineRequest> requests;
    std::vector<std::shared_ptr<CollectingSink>> sinks;
    std::vector<RequestId> ids;
    for (int i = 0; i < 40; ++i) {
      std::vector<int32_t> prompt = Prompt(static_cast<int64_t>(random() % 4) * 16, 2);
      const std::vector<int32_t> rest =
          Prompt(1 + static_cast<int64_t>(random() % 40), static_cast<int32_t>(random() % 3));
      prompt.insert(prompt.end(), rest.begin(), rest.end());
      requests.push_back(
          MakeRequest(prompt, 1 + static_cast<int64_t>(random() % 50), random() % 3));
      requests.back().choices = 1 + static_cast<int>(random() % 3);
      requests.back().priority = static_cast<int32_t>(random() % 3);
      sinks.push_back(Start(requests.back()));
      ids.push_back(last_id_);
      for (uint64_t step = random() % 4; step > 0; --step) group->Step();
      if (random() % 5 == 0) engine_->Cancel(ids[random() % ids.size()]);
    }
    group->RunUntilIdle();
    for (size_t i = 0; i < requests.size(); ++i) {
      for (int choice = 0; choice < requests[i].choices; ++choice) {
        ASSERT_TRUE(sinks[i]->outcome(choice).has_value());
        if (!sinks[i]->outcome(choice)->status.ok()) continue;
        ASSERT_EQ(sinks[i]->tokens(choice), Expected(requests[i], choice)) << "seed " << seed;
      }
    }
    ASSERT_THAT(group->violations(), IsEmpty()) << "seed " << seed;
    ExpectNothingLeft();
    cached += engine_->Stats().cached_tokens;
    preemptions += engine_->Stats().preemptions;
  }
  EXPECT_GT(cached, 10000);
  EXPECT_GT(preemptions, 100);
}

}  // namespace
}  // namespace lockstep::coordinator
