// Norms, gated activation and rotary positions in vectors.
#include "kernels/ops.h"

#include <algorithm>
#include <cmath>

#include "glog/logging.h"

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/ops.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, as Highway wants it.
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lockstep::kernels::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, 16>;
using VF = hn::Vec<F32>;
constexpr int64_t kLanes = hn::MaxLanes(F32());

// Loads the vector at i of n, zeros beyond the end.
HWY_INLINE VF LoadPart(const float* from, int64_t i, int64_t n) {
  if (i + kLanes <= n) return hn::LoadU(F32(), from + i);
  alignas(64) float part[kLanes] = {};
  for (int64_t j = i; j < n; ++j) part[j - i] = from[j];
  return hn::Load(F32(), part);
}

HWY_INLINE void StorePart(VF v, float* to, int64_t i, int64_t n) {
  if (i + kLanes <= n) return hn::StoreU(v, F32(), to + i);
  alignas(64) float part[kLanes];
  hn::Store(v, F32(), part);
  for (int64_t j = i; j < n; ++j) to[j] = part[j - i];
}

// Four partial sums, so that the latency of an addition does not set the pace.
float SumOfSquares(const float* x, int64_t n) {
  const F32 d;
  VF sum[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const VF v = hn::LoadU(d, x + i + j * kLanes);
      sum[j] = hn::MulAdd(v, v, sum[j]);
    }
  }
  for (; i < n; i += kLanes) {
    const VF v = LoadPart(x, i, n);
    sum[0] = hn::MulAdd(v, v, sum[0]);
  }
  const VF all = hn::Add(hn::Add(sum[0], sum[1]), hn::Add(sum[2], sum[3]));
  return hn::GetLane(hn::SumOfLanes(d, all));
}

void RmsNormRow(const float* x, const float* weight, float eps, int64_t n, float* out) {
  float mean = SumOfSquares(x, n) / static_cast<float>(n);
  const VF scale = hn::Set(F32(), 1.0f / std::sqrt(mean + eps));
  for (int64_t i = 0; i < n; i += kLanes) {
    StorePart(hn::Mul(hn::Mul(LoadPart(x, i, n), scale), LoadPart(weight, i, n)), out, i, n);
  }
}

void AddRow(float* residual, const float* delta, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) {
    StorePart(hn::Add(LoadPart(residual, i, n), LoadPart(delta, i, n)), residual, i, n);
  }
}

void SiluMulRow(const float* gate, const float* up, int64_t n, float* out) {
  const F32 d;
  const VF one = hn::Set(d, 1.0f);
  // exp overflows to infinity below, which makes silu the correct (negative) zero.
  const VF floor = hn::Set(d, -100.0f);
  for (int64_t i = 0; i < n; i += kLanes) {
    const VF z = LoadPart(gate, i, n);
    const VF denominator = hn::Add(one, hn::Exp(d, hn::Neg(hn::Max(z, floor))));
    StorePart(hn::Mul(hn::Div(z, denominator), LoadPart(up, i, n)), out, i, n);
  }
}

void RotateRow(float* x, const float* cos_sin, int64_t half, int heads) {
  for (int h = 0; h < heads; ++h, x += 2 * half) {
    for (int64_t i = 0; i < half; i += kLanes) {
      const VF a = LoadPart(x, i, half);
      const VF b = LoadPart(x + half, i, half);
      const VF cos = LoadPart(cos_sin, i, half);
      const VF sin = LoadPart(cos_sin + half, i, half);
      StorePart(hn::NegMulAdd(b, sin, hn::Mul(a, cos)), x, i, half);
      StorePart(hn::MulAdd(a, sin, hn::Mul(b, cos)), x + half, i, half);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lockstep::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lockstep::kernels {
namespace cpu {
namespace {

HWY_EXPORT(RmsNormRow);
HWY_EXPORT(AddRow);
HWY_EXPORT(SiluMulRow);
HWY_EXPORT(RotateRow);

void DispatchRmsNormRow(const float* x, const float* weight, float eps, int64_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(RmsNormRow)(x, weight, eps, n, out);
}
void DispatchAddRow(float* residual, const float* delta, int64_t n) {
  HWY_DYNAMIC_DISPATCH(AddRow)(residual, delta, n);
}
void DispatchSiluMulRow(const float* gate, const float* up, int64_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(SiluMulRow)(gate, up, n, out);
}
void DispatchRotateRow(float* x, const float* cos_sin, int64_t half, int heads) {
  HWY_DYNAMIC_DISPATCH(RotateRow)(x, cos_sin, half, heads);
}

}  // namespace
}  // namespace cpu

namespace {

// Elements worth a thread of their own: about two microseconds of work.
constexpr int64_t kGrainElements = 16384;

void ForRows(int64_t rows, int64_t elements_per_row, ThreadPool& pool,
             const std::function<void(int64_t begin, int64_t end)>& body) {
  pool.ParallelFor(rows, std::max<int64_t>(1, kGrainElements / elements_per_row), body);
}

}  // namespace

void RmsNorm(ConstMatrix x, std::span<const float> weight, float eps, Matrix out,
             ThreadPool& pool) {
  CHECK_EQ(x.cols, static_cast<int64_t>(weight.size()));
  CHECK_EQ(x.cols, out.cols);
  CHECK_EQ(x.rows, out.rows);
  ForRows(x.rows, x.cols, pool, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      cpu::DispatchRmsNormRow(x.row(r), weight.data(), eps, x.cols, out.row(r));
  });
}

void AddRmsNorm(Matrix residual, ConstMatrix delta, std::span<const float> weight, float eps,
                Matrix out, ThreadPool& pool) {
  CHECK_EQ(residual.cols, static_cast<int64_t>(weight.size()));
  CHECK_EQ(residual.cols, delta.cols);
  CHECK_EQ(residual.cols, out.cols);
  CHECK_EQ(residual.rows, delta.rows);
  CHECK_EQ(residual.rows, out.rows);
  int64_t n = residual.cols;
  ForRows(residual.rows, n, pool, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      cpu::DispatchAddRow(residual.row(r), delta.row(r), n);
      cpu::DispatchRmsNormRow(residual.row(r), weight.data(), eps, n, out.row(r));
    }
  });
}

void SiluMul(ConstMatrix gate_up, Matrix out, ThreadPool& pool) {
  CHECK_EQ(gate_up.cols, 2 * out.cols);
  CHECK_EQ(gate_up.rows, out.rows);
  ForRows(out.rows, gate_up.cols, pool, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      cpu::DispatchSiluMulRow(gate_up.row(r), gate_up.row(r) + out.cols, out.cols, out.row(r));
    }
  });
}

void RopeCosSin(std::span<const int32_t> positions, std::span<const double> inverse_frequencies,
                float scale, Matrix cos_sin, ThreadPool& pool) {
  int64_t half = static_cast<int64_t>(inverse_frequencies.size());
  CHECK_EQ(cos_sin.rows, static_cast<int64_t>(positions.size()));
  CHECK_EQ(cos_sin.cols, 2 * half);
  // A sine costs some twenty times a multiplication.
  ForRows(cos_sin.rows, 20 * cos_sin.cols, pool, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t i = 0; i < half; ++i) {
        double angle = positions[r] * inverse_frequencies[i];
        cos_sin.row(r)[i] = static_cast<float>(std::cos(angle) * scale);
        cos_sin.row(r)[half + i] = static_cast<float>(std::sin(angle) * scale);
      }
    }
  });
}

void RotateHalf(Matrix x, ConstMatrix cos_sin, int heads, ThreadPool& pool) {
  CHECK_EQ(x.cols, heads * cos_sin.cols);
  CHECK_EQ(x.rows, cos_sin.rows);
  ForRows(x.rows, x.cols, pool, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      cpu::DispatchRotateRow(x.row(r), cos_sin.row(r), cos_sin.cols / 2, heads);
    }
  });
}

}  // namespace lockstep::kernels
#endif  // HWY_ONCE
