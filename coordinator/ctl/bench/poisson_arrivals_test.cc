// Claims on arrivals: the counts of equal windows are Poisson's, and a seed repeats them.
#include "coordinator/ctl/bench/poisson_arrivals.h"

#include <gtest/gtest.h>

#include <vector>

namespace lockstep::coordinator {
namespace {

TEST(PoissonArrivalsTest, CountsPerSecondHaveTheRateAsMeanAndAsVariance) {
  PoissonArrivals arrivals(20, 5);
  std::vector<int> counts(2000);
  for (double at = arrivals.Next(); at < 2000; at = arrivals.Next()) ++counts[static_cast<int>(at)];
  double sum = 0;
  double squares = 0;
  for (int count : counts) {
    sum += count;
    squares += static_cast<double>(count) * count;
  }
  const double mean = sum / 2000;
  EXPECT_NEAR(mean, 20, 0.4);
  EXPECT_NEAR(squares / 2000 - mean * mean, 20, 2.6);
}

TEST(PoissonArrivalsTest, SameSeedRepeatsAndAnotherDoesNot) {
  EXPECT_EQ(PoissonArrivals(3, 1).Next(), PoissonArrivals(3, 1).Next());
  EXPECT_NE(PoissonArrivals(3, 1).Next(), PoissonArrivals(3, 2).Next());
}

}  // namespace
}  // namespace lockstep::coordinator
