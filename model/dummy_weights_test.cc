// Dummy weights are the same model however it is divided, and statistically what they claim.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "model/weight_source.h"

namespace lockstep::model {
namespace {

constexpr WeightShape kFull = {200, 301};

std::vector<float> Values(const TensorRows& rows) {
  std::vector<float> values;
  for (int64_t r = 0; r < rows.rows; ++r) {
    for (int64_t c = 0; c < rows.cols; ++c) {
      uint16_t bits;
      std::memcpy(&bits, rows.data + r * rows.stride_bytes + c * 2, sizeof(bits));
      values.push_back(Bf16ToFloat(bits));
    }
  }
  return values;
}

std::vector<float> Read(uint64_t seed, const char* name, WeightShape full, int64_t row_begin,
                        int64_t rows, int64_t col_begin, int64_t cols) {
  std::vector<std::byte> scratch;
  return Values(
      MakeDummyWeights(seed)->Rows(name, full, row_begin, rows, col_begin, cols, scratch).value());
}

TEST(DummyWeightsTest, EverySliceIsThatPartOfTheWhole) {
  std::vector<float> whole = Read(1, "w", kFull, 0, kFull.rows, 0, kFull.cols);
  for (int64_t row_begin : {0, 1, 7, 199}) {
    for (int64_t col_begin : {0, 1, 2, 3, 4, 5, 298}) {
      for (int64_t cols : {1, 2, 3}) {
        std::vector<float> slice = Read(1, "w", kFull, row_begin, 1, col_begin, cols);
        for (int64_t c = 0; c < cols; ++c) {
          EXPECT_EQ(slice[c], whole[row_begin * kFull.cols + col_begin + c]);
        }
      }
    }
  }
}

TEST(DummyWeightsTest, SeedAndNameDecide) {
  std::vector<float> first = Read(1, "w", kFull, 0, 4, 0, 301);
  EXPECT_EQ(first, Read(1, "w", kFull, 0, 4, 0, 301));
  EXPECT_NE(first, Read(2, "w", kFull, 0, 4, 0, 301));
  EXPECT_NE(first, Read(1, "v", kFull, 0, 4, 0, 301));
}

TEST(DummyWeightsTest, MeanIsZeroAndDeviationTwoHundredths) {
  std::vector<float> values = Read(3, "w", {1000, 1000}, 0, 1000, 0, 1000);
  double sum = 0, squares = 0, neighbours = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    sum += values[i];
    squares += values[i] * values[i];
    if (i > 0) neighbours += values[i] * values[i - 1];
  }
  double count = static_cast<double>(values.size());
  EXPECT_NEAR(sum / count, 0, 5 * 0.02 / std::sqrt(count));
  EXPECT_NEAR(std::sqrt(squares / count), 0.02, 1e-4);
  EXPECT_NEAR(neighbours / squares, 0, 5 / std::sqrt(count));
}

TEST(DummyWeightsTest, NormsAreOne) {
  for (float value : Read(1, "norm", {300, 1}, 10, 50, 0, 1)) EXPECT_EQ(value, 1.0f);
}

TEST(DummyWeightsTest, ValuesAreTheSameOnEveryMachine) {
  // Written down once; a change here makes ranks of different builds hold different models.
  std::vector<float> values = Read(42, "model.embed_tokens.weight", kFull, 5, 1, 6, 4);
  EXPECT_EQ(values,
            (std::vector<float>{0.00379943848f, -0.00454711914f, -0.00250244141f, 0.033203125f}));
}

TEST(DummyWeightsTest, RectanglesOutsideTheTensorAreRefused) {
  std::vector<std::byte> scratch;
  auto weights = MakeDummyWeights(1);
  EXPECT_FALSE(weights->Rows("w", kFull, 0, 201, 0, 1, scratch).ok());
  EXPECT_FALSE(weights->Rows("w", kFull, -1, 1, 0, 1, scratch).ok());
  EXPECT_FALSE(weights->Rows("w", kFull, 0, 1, 300, 2, scratch).ok());
}

}  // namespace
}  // namespace lockstep::model
