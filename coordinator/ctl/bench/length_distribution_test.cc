// Claims on lengths: legal forms give what they say, others are refused by their text.
#include "coordinator/ctl/bench/length_distribution.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "coordinator/ctl/bench/seeded_generator.h"

namespace lockstep::coordinator {
namespace {

std::vector<int64_t> Samples(const std::string& text, int count) {
  absl::StatusOr<LengthDistribution> lengths = LengthDistribution::Parse(text);
  EXPECT_TRUE(lengths.ok()) << lengths.status();
  std::mt19937_64 generator = SeededGenerator(7, RandomUse::kRequest, 0);
  std::vector<int64_t> samples(count);
  for (int64_t& sample : samples) sample = lengths->Sample(generator);
  return samples;
}

double Mean(const std::vector<int64_t>& values) {
  double sum = 0;
  for (int64_t value : values) sum += static_cast<double>(value);
  return sum / static_cast<double>(values.size());
}

TEST(LengthDistributionTest, NumberIsAlwaysThatLength) {
  for (int64_t sample : Samples("64", 100)) EXPECT_EQ(sample, 64);
}

TEST(LengthDistributionTest, UniformReachesBothEndsAndNothingBeyond) {
  const std::vector<int64_t> samples = Samples("uniform:3-6", 4000);
  for (int64_t length = 3; length <= 6; ++length) {
    // 1000 expected, standard deviation 27.
    EXPECT_NEAR(std::count(samples.begin(), samples.end(), length), 1000, 140);
  }
  EXPECT_EQ(*std::min_element(samples.begin(), samples.end()), 3);
  EXPECT_EQ(*std::max_element(samples.begin(), samples.end()), 6);
}

TEST(LengthDistributionTest, LognormalHasTheNamedMeanAndSpread) {
  const std::vector<int64_t> samples = Samples("lognormal:400,0.5", 40000);
  EXPECT_NEAR(Mean(samples), 400, 6);
  double log_sum = 0;
  double log_squares = 0;
  for (int64_t sample : samples) {
    const double log = std::log(static_cast<double>(sample));
    log_sum += log;
    log_squares += log * log;
  }
  const double log_mean = log_sum / 40000;
  EXPECT_NEAR(std::sqrt(log_squares / 40000 - log_mean * log_mean), 0.5, 0.01);
}

TEST(LengthDistributionTest, LognormalIsCutAtItsThirdNumberAndAtOne) {
  const std::vector<int64_t> samples = Samples("lognormal:100,2,150", 4000);
  EXPECT_EQ(*std::max_element(samples.begin(), samples.end()), 150);
  EXPECT_EQ(*std::min_element(samples.begin(), samples.end()), 1);
}

TEST(LengthDistributionTest, WhatIsNoLengthIsRefusedByItsTextWithTheLegalForms) {
  for (const char* text :
       {"", "0", "-3", "1.5", "x", "99999999999", "uniform:", "uniform:5", "uniform:6-5",
        "uniform:0-5", "uniform:1-2-3", "lognormal:5", "lognormal:nan,1", "lognormal:5,nan",
        "lognormal:5,11", "lognormal:0,1", "lognormal:5,1,0", "normal:5,1", "uniform"}) {
    const absl::Status status = LengthDistribution::Parse(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("\"" + std::string(text)));
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("uniform:LEAST-MOST"));
  }
}

}  // namespace
}  // namespace lockstep::coordinator
