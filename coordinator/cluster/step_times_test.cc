// StepTimes: sums over all steps, the median over the last ones.
#include "coordinator/cluster/step_times.h"

#include "absl/time/clock.h"
#include "gtest/gtest.h"

namespace lockstep::coordinator {
namespace {

v1::StepResult Result(uint64_t step_ns, uint64_t wait_ns, uint64_t gap_ns) {
  v1::StepResult result;
  result.set_step_ns(step_ns);
  result.set_wait_ns(wait_ns);
  result.set_gap_ns(gap_ns);
  return result;
}

TEST(StepTimesTest, SumsAllStepsAndKeepsTheLastOne) {
  StepTimes times;
  EXPECT_EQ(times.Read().at, absl::InfinitePast());
  times.Add(Result(10, 4, 1), absl::FromUnixSeconds(1));
  times.Add(Result(20, 5, 3), absl::FromUnixSeconds(2));
  const RankStepTimes read = times.Read();
  EXPECT_EQ(read.steps, 2u);
  EXPECT_EQ(read.step_ns, 20u);
  EXPECT_EQ(read.wait_ns, 5u);
  EXPECT_EQ(read.at, absl::FromUnixSeconds(2));
  EXPECT_EQ(read.total_step_ns, 30u);
  EXPECT_EQ(read.total_wait_ns, 9u);
  EXPECT_EQ(read.total_gap_ns, 4u);
}

TEST(StepTimesTest, TheMedianForgetsWhatIsLongAgo) {
  StepTimes times;
  for (size_t i = 0; i < StepTimes::kRecent; ++i) times.Add(Result(1, 1, 1000), absl::Now());
  EXPECT_EQ(times.Read().median_gap_ns, 1000u);
  for (size_t i = 0; i < StepTimes::kRecent; ++i) times.Add(Result(1, 1, i), absl::Now());
  EXPECT_EQ(times.Read().median_gap_ns, StepTimes::kRecent / 2);
}

}  // namespace
}  // namespace lockstep::coordinator
