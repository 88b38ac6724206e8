// Row-wise operations against the double-precision reference, and their row invariance.
#include "kernels/ops.h"

#include <cmath>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/op_cases.h"
#include "kernels/reference.h"

namespace lockstep::kernels {
namespace {

constexpr float kEps = 1e-5f;

ReferenceMatrix AsReference(const std::vector<float>& values, int64_t rows, int64_t cols) {
  ReferenceMatrix m(rows, cols);
  m.values.assign(values.begin(), values.end());
  return m;
}

void ExpectNear(const std::vector<float>& actual, const ReferenceMatrix& expected,
                double tolerance) {
  ASSERT_EQ(actual.size(), expected.values.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_NEAR(actual[i], expected.values[i], tolerance * (1 + std::fabs(expected.values[i])))
        << "element " << i;
  }
}

TEST(OpsTest, RmsNormAgreesWithTheReferenceInPlaceToo) {
  ThreadPool pool(2);
  for (const RowwiseCase& c : RowwiseCases()) {
    std::vector<float> x = RandomNormal(c.rows * c.cols, c.seed, 3.0f);
    std::vector<float> weight = RandomNormal(c.cols, c.seed + 1);
    ReferenceMatrix expected = ReferenceRmsNorm(AsReference(x, c.rows, c.cols), weight, kEps);
    std::vector<float> out(x.size());
    RmsNorm({x.data(), c.rows, c.cols}, weight, kEps, {out.data(), c.rows, c.cols}, pool);
    ExpectNear(out, expected, 2e-6);
    RmsNorm({x.data(), c.rows, c.cols}, weight, kEps, {x.data(), c.rows, c.cols}, pool);
    EXPECT_EQ(x, out);
  }
}

TEST(OpsTest, AddRmsNormAddsThenNormalises) {
  ThreadPool pool(2);
  for (const RowwiseCase& c : RowwiseCases()) {
    std::vector<float> residual = RandomNormal(c.rows * c.cols, c.seed);
    std::vector<float> delta = RandomNormal(c.rows * c.cols, c.seed + 1);
    std::vector<float> weight = RandomNormal(c.cols, c.seed + 2);
    std::vector<float> sum(residual.size());
    for (size_t i = 0; i < sum.size(); ++i) sum[i] = residual[i] + delta[i];
    std::vector<float> out(residual.size());
    AddRmsNorm({residual.data(), c.rows, c.cols}, {delta.data(), c.rows, c.cols}, weight, kEps,
               {out.data(), c.rows, c.cols}, pool);
    EXPECT_EQ(residual, sum);
    ExpectNear(out, ReferenceRmsNorm(AsReference(sum, c.rows, c.cols), weight, kEps), 2e-6);
  }
}

TEST(OpsTest, SiluMulAgreesWithTheReference) {
  ThreadPool pool(2);
  for (const RowwiseCase& c : RowwiseCases()) {
    std::vector<float> gate_up = RandomNormal(c.rows * 2 * c.cols, c.seed, 4.0f);
    std::vector<float> out(c.rows * c.cols);
    SiluMul({gate_up.data(), c.rows, 2 * c.cols}, {out.data(), c.rows, c.cols}, pool);
    ExpectNear(out, ReferenceSiluMul({gate_up.data(), c.rows, 2 * c.cols}), 1e-6);
  }
}

TEST(OpsTest, SiluMulOfHugeGatesStaysFinite) {
  ThreadPool pool(1);
  std::vector<float> gate_up = {-1e30f, -200.0f, 200.0f, 1e30f, 1.0f, 1.0f, 1.0f, 1.0f};
  std::vector<float> out(4);
  SiluMul({gate_up.data(), 1, 8}, {out.data(), 1, 4}, pool);
  EXPECT_NEAR(out[0], 0, 1e-12);
  EXPECT_NEAR(out[1], 0, 1e-12);
  EXPECT_EQ(out[2], 200.0f);
  EXPECT_EQ(out[3], 1e30f);
}

TEST(OpsTest, RotationAgreesWithTheReference) {
  ThreadPool pool(2);
  for (const RotaryCase& c : RotaryCases()) {
    int64_t cols = c.heads * c.head_dim;
    int half = c.head_dim / 2;
    std::vector<float> x = RandomNormal(c.rows * cols, c.seed);
    std::vector<int32_t> positions(c.rows);
    std::iota(positions.begin(), positions.end(), c.first_position);
    std::vector<double> frequencies(half);
    for (int i = 0; i < half; ++i) frequencies[i] = std::pow(500000.0, -double{1.0 * i} / half);
    ReferenceMatrix expected =
        ReferenceRotateHalf({x.data(), c.rows, cols}, positions, frequencies, 1.25);
    std::vector<float> cos_sin(c.rows * c.head_dim);
    RopeCosSin(positions, frequencies, 1.25f, {cos_sin.data(), c.rows, c.head_dim}, pool);
    RotateHalf({x.data(), c.rows, cols}, {cos_sin.data(), c.rows, c.head_dim}, c.heads, pool);
    ExpectNear(x, expected, 1e-6);
  }
}

TEST(OpsTest, RowsKeepTheirBitsInAnyBatchAndNumberOfThreads) {
  const int64_t rows = 37, cols = 1500;
  ThreadPool one(1), three(3);
  std::vector<float> x = RandomNormal(rows * cols, 31);
  std::vector<float> weight = RandomNormal(cols, 32);
  std::vector<float> together(rows * cols), alone(rows * cols);
  RmsNorm({x.data(), rows, cols}, weight, kEps, {together.data(), rows, cols}, three);
  ConstMatrix all(x.data(), rows, cols);
  Matrix each(alone.data(), rows, cols);
  for (int64_t r = 0; r < rows; ++r) {
    RmsNorm(all.RowRange(r, r + 1), weight, kEps, each.RowRange(r, r + 1), one);
  }
  EXPECT_EQ(together, alone);
  std::vector<float> silu_together(rows * cols / 2), silu_alone(rows * cols / 2);
  SiluMul(all, {silu_together.data(), rows, cols / 2}, three);
  for (int64_t r = 0; r < rows; ++r) {
    SiluMul(all.RowRange(r, r + 1), {silu_alone.data() + r * cols / 2, 1, cols / 2}, one);
  }
  EXPECT_EQ(silu_together, silu_alone);
}

}  // namespace
}  // namespace lockstep::kernels
