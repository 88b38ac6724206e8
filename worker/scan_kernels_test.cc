// Every loop against the plain one, at lengths that fill no vector.
#include "worker/scan_kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "worker/hash.h"

namespace lockstep::worker {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> RandomLogits(int count) {
  std::mt19937 random(static_cast<uint32_t>(count));
  std::normal_distribution<float> normal(0, 5);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

const int kLengths[] = {0, 1, 7, 15, 16, 17, 63, 64, 65, 130, 1000};

std::vector<float> MaximaOf(const std::vector<float>& x) {
  std::vector<float> maxima(MaximaBlocks(static_cast<int64_t>(x.size())));
  BlockMaxima(x, maxima);
  return maxima;
}

TEST(ScanKernelsTest, BlockMaximaAreTheLargestOfEachBlock) {
  for (int length : kLengths) {
    const std::vector<float> x = RandomLogits(length);
    std::vector<float> expected;
    for (int64_t begin = 0; begin < length; begin += kMaximaBlock) {
      const int64_t end = std::min<int64_t>(length, begin + kMaximaBlock);
      expected.push_back(*std::max_element(x.begin() + begin, x.begin() + end));
    }
    EXPECT_EQ(MaximaOf(x), expected) << length;
  }
}

TEST(ScanKernelsTest, BlockMaximaPassOverWhatIsNotANumber) {
  std::vector<float> x = RandomLogits(100);
  for (int i : {0, 17, 63, 64, 99}) x[i] = -kInfinity;
  const std::vector<float> expected = MaximaOf(x);
  for (int i : {0, 17, 63, 64, 99}) x[i] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(MaximaOf(x), expected);
}

TEST(ScanKernelsTest, FirstAboveFindsAllInOrder) {
  for (int length : kLengths) {
    const std::vector<float> x = RandomLogits(length);
    std::vector<int64_t> expected;
    for (int i = 0; i < length; ++i) {
      if (x[i] > 4) expected.push_back(i);
    }
    std::vector<int64_t> found;
    for (int64_t i = FirstAbove(x, 0, 4); i < length; i = FirstAbove(x, i + 1, 4)) {
      found.push_back(i);
    }
    EXPECT_EQ(found, expected) << length;
  }
}

TEST(ScanKernelsTest, ExponentialsAreThoseOfTheLibraryToElevenDigits) {
  for (int length : kLengths) {
    std::vector<float> x = RandomLogits(length);
    if (length > 2) x[1] = -kInfinity;
    std::vector<double> exps(length);
    ExpOf(x, 20, 0.7, exps);
    double sum = 0;
    for (int i = 0; i < length; ++i) {
      const double expected = std::exp((x[i] - 20.0) * 0.7);
      EXPECT_NEAR(exps[i], expected, expected * 1e-11);
      sum += expected;
    }
    EXPECT_NEAR(SumOfExp(x, 20, 0.7), sum, sum * 1e-11) << length;
  }
}

TEST(ScanKernelsTest, FirstMixBelowFindsAllInOrder) {
  constexpr uint64_t kStart = 0x123456789abcdef0;
  for (int count : kLengths) {
    std::vector<double> fractions;
    for (int64_t block = 0; block < MaximaBlocks(count); ++block) {
      fractions.push_back(block % 3 * 0.3 + 0.01);
    }
    for (double scale : {1e300, 1.0, 0.02, 0.0}) {
      std::vector<int64_t> expected;
      for (int64_t i = 0; i < count; ++i) {
        const uint64_t threshold = MixThreshold(fractions[i / kMaximaBlock] * scale);
        if (Mix64(kStart + static_cast<uint64_t>(i) * kGoldenGamma) < threshold) {
          expected.push_back(i);
        }
      }
      std::vector<int64_t> found;
      for (int64_t i = FirstMixBelow(kStart, 0, count, fractions, scale); i < count;
           i = FirstMixBelow(kStart, i + 1, count, fractions, scale)) {
        found.push_back(i);
      }
      EXPECT_EQ(found, expected) << count;
    }
  }
}

}  // namespace
}  // namespace lockstep::worker
