// Answers in every order, and answers that must not be.
#include "coordinator/cluster/step_collector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockstep::coordinator {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kEpoch = 5;

v1::StepResult Result(uint64_t step, uint64_t digest = 1, int token = 0) {
  v1::StepResult result;
  result.set_epoch(kEpoch);
  result.set_step_id(step);
  result.set_state_digest(digest);
  if (token != 0) result.add_sampled()->set_token_id(token);
  return result;
}

TEST(StepCollectorTest, AStepIsDoneWhenTheLastRankHasAnswered) {
  StepCollector collector(kEpoch, 3, 2);
  EXPECT_FALSE(collector.Take(2, Result(1, 9, 42), 1)->has_value());
  EXPECT_FALSE(collector.Take(0, Result(1, 9), 1)->has_value());
  std::optional<v1::StepResult> done = collector.Take(1, Result(1, 9), 1).value();
  ASSERT_TRUE(done.has_value());
  EXPECT_EQ(done->sampled(0).token_id(), 42);
}

TEST(StepCollectorTest, ARankMayRunAheadAndStepsStillEndInOrder) {
  StepCollector collector(kEpoch, 2, 0);
  for (uint64_t step = 1; step <= 3; ++step) {
    EXPECT_FALSE(collector.Take(0, Result(step, step), 3)->has_value());
  }
  for (uint64_t step = 1; step <= 3; ++step) {
    EXPECT_EQ(collector.Take(1, Result(step, step), 3).value()->step_id(), step);
  }
}

TEST(StepCollectorTest, DifferentDigestsNameStepAndRanks) {
  StepCollector collector(kEpoch, 2, 0);
  ASSERT_TRUE(collector.Take(1, Result(1, 0xa), 1).ok());
  absl::Status status = collector.Take(0, Result(1, 0xb), 1).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("digest 000000000000000a on rank 1, 000000000000000b on rank 0"));
}

TEST(StepCollectorTest, AGapARepetitionAndAnotherEpochAreErrors) {
  EXPECT_FALSE(StepCollector(kEpoch, 1, 0).Take(0, Result(2), 2).ok());
  StepCollector repeated(kEpoch, 1, 0);
  ASSERT_TRUE(repeated.Take(0, Result(1), 2).ok());
  EXPECT_FALSE(repeated.Take(0, Result(1), 2).ok());
  v1::StepResult stale = Result(1);
  stale.set_epoch(kEpoch - 1);
  EXPECT_FALSE(StepCollector(kEpoch, 1, 0).Take(0, stale, 1).ok());
}

TEST(StepCollectorTest, AnAnswerToAStepThatWasNeverSentIsAnError) {
  absl::Status status = StepCollector(kEpoch, 1, 0).Take(0, Result(1), 0).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("0 were sent"));
}

}  // namespace
}  // namespace lockstep::coordinator
