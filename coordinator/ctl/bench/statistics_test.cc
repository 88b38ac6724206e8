// Claims on summaries: literal percentiles, and any order of values gives the same.
#include "coordinator/ctl/bench/statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

namespace lockstep::coordinator {
namespace {

TEST(StatisticsTest, NothingGivesZerosAndOneValueIsEveryPercentile) {
  EXPECT_EQ(Summarize({}).count, 0);
  EXPECT_EQ(Summarize({}).max, 0);
  const Summary one = Summarize({4.5});
  EXPECT_EQ(one.count, 1);
  for (double value : {one.mean, one.p50, one.p90, one.p99, one.max}) EXPECT_EQ(value, 4.5);
}

TEST(StatisticsTest, PercentilesOfZeroToThousandStandWhereTheirRankIs) {
  std::vector<double> values(1001);
  std::iota(values.begin(), values.end(), 0.0);
  std::shuffle(values.begin(), values.end(), std::mt19937_64(1));
  const Summary summary = Summarize(values);
  EXPECT_DOUBLE_EQ(summary.mean, 500);
  EXPECT_DOUBLE_EQ(summary.p50, 500);
  EXPECT_DOUBLE_EQ(summary.p90, 900);
  EXPECT_DOUBLE_EQ(summary.p99, 990);
  EXPECT_DOUBLE_EQ(summary.max, 1000);
}

TEST(StatisticsTest, BetweenTwoValuesPercentilesAreInterpolated) {
  // numpy.percentile([1, 2, 4, 8], [50, 90, 99]) = [3, 6.8, 7.88]
  const Summary summary = Summarize({8, 1, 4, 2});
  EXPECT_DOUBLE_EQ(summary.p50, 3);
  EXPECT_DOUBLE_EQ(summary.p90, 6.8);
  EXPECT_DOUBLE_EQ(summary.p99, 7.88);
}

TEST(StatisticsTest, AsManyValuesLieBelowAPercentileAsItSays) {
  std::mt19937_64 generator(9);
  std::exponential_distribution<double> draw(1);
  for (int count : {2, 3, 10, 99, 1000}) {
    std::vector<double> values(count);
    for (double& value : values) value = draw(generator);
    const Summary summary = Summarize(values);
    for (auto [fraction, percentile] : {std::pair{0.5, summary.p50}, {0.9, summary.p90}}) {
      const auto below =
          std::count_if(values.begin(), values.end(), [p = percentile](double v) { return v < p; });
      EXPECT_NEAR(static_cast<double>(below), fraction * (count - 1), 1.0);
    }
  }
}

}  // namespace
}  // namespace lockstep::coordinator
