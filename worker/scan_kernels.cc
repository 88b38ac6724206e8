// Ends that fill no vector are done one element at a time, or as a padded vector.
#include "worker/scan_kernels.h"

#include <algorithm>
#include <limits>

#include "worker/hash.h"

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "worker/scan_kernels.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, as Highway wants it.
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lockstep::worker::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, 16>;
using F64 = hn::CappedTag<double, 8>;
using F32Half = hn::Rebind<float, F64>;
using U64 = hn::CappedTag<uint64_t, 8>;
using VF64 = hn::Vec<F64>;
using VU64 = hn::Vec<U64>;

float MaxOf(const float* x, int64_t n) {
  const F32 d;
  constexpr int64_t kLanes = hn::MaxLanes(F32());
  const auto lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
  // Several maxima side by side, so that the latency of one does not set the pace.
  hn::Vec<F32> max[4] = {lowest, lowest, lowest, lowest};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const auto v = hn::LoadU(d, x + i + j * kLanes);
      max[j] = hn::IfThenElse(hn::Gt(v, max[j]), v, max[j]);
    }
  }
  const auto all = hn::Max(hn::Max(max[0], max[1]), hn::Max(max[2], max[3]));
  float highest = hn::GetLane(hn::MaxOfLanes(d, all));
  for (; i < n; ++i) highest = x[i] > highest ? x[i] : highest;
  return highest;
}

int64_t FirstAbove(const float* x, int64_t begin, int64_t n, float threshold) {
  const F32 d;
  constexpr int64_t kLanes = hn::MaxLanes(F32());
  const auto limit = hn::Set(d, threshold);
  int64_t i = begin;
  for (; i + kLanes <= n; i += kLanes) {
    const intptr_t first = hn::FindFirstTrue(d, hn::Gt(hn::LoadU(d, x + i), limit));
    if (first >= 0) return i + first;
  }
  for (; i < n; ++i) {
    if (x[i] > threshold) return i;
  }
  return n;
}

HWY_INLINE VF64 ExpAt(const float* x, VF64 max, VF64 scale) {
  const F64 d;
  const VF64 logits = hn::PromoteTo(d, hn::LoadU(F32Half(), x));
  return hn::Exp(d, hn::Mul(hn::Sub(logits, max), scale));
}

void ExpOf(const float* x, int64_t n, double max, double scale, double* out) {
  const F64 d;
  constexpr int64_t kLanes = hn::MaxLanes(F64());
  const VF64 max_v = hn::Set(d, max);
  const VF64 scale_v = hn::Set(d, scale);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) hn::StoreU(ExpAt(x + i, max_v, scale_v), d, out + i);
  if (i == n) return;
  alignas(64) float part[kLanes] = {};
  alignas(64) double exps[kLanes];
  std::copy(x + i, x + n, part);
  hn::Store(ExpAt(part, max_v, scale_v), d, exps);
  std::copy(exps, exps + (n - i), out + i);
}

double SumOfExp(const float* x, int64_t n, double max, double scale) {
  const F64 d;
  constexpr int64_t kLanes = hn::MaxLanes(F64());
  const VF64 max_v = hn::Set(d, max);
  const VF64 scale_v = hn::Set(d, scale);
  VF64 sum[2] = {hn::Zero(d), hn::Zero(d)};
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    sum[0] = hn::Add(sum[0], ExpAt(x + i, max_v, scale_v));
    sum[1] = hn::Add(sum[1], ExpAt(x + i + kLanes, max_v, scale_v));
  }
  double total = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum[0], sum[1])));
  alignas(64) double rest[2 * kLanes];
  ExpOf(x + i, n - i, max, scale, rest);
  for (int64_t j = 0; j < n - i; ++j) total += rest[j];
  return total;
}

HWY_INLINE VU64 Mix(VU64 x) {
  const U64 d;
  x = hn::Mul(hn::Xor(x, hn::ShiftRight<30>(x)), hn::Set(d, 0xbf58476d1ce4e5b9u));
  x = hn::Mul(hn::Xor(x, hn::ShiftRight<27>(x)), hn::Set(d, 0x94d049bb133111ebu));
  return hn::Xor(x, hn::ShiftRight<31>(x));
}

int64_t FirstMixBelow(uint64_t start, int64_t begin, int64_t count, uint64_t threshold) {
  const U64 d;
  constexpr int64_t kLanes = hn::MaxLanes(U64());
  const VU64 limit = hn::Set(d, threshold);
  const VU64 step = hn::Set(d, kGoldenGamma * kLanes);
  int64_t i = begin;
  VU64 counter = hn::Add(hn::Set(d, start + static_cast<uint64_t>(i) * kGoldenGamma),
                         hn::Mul(hn::Iota(d, 0), hn::Set(d, kGoldenGamma)));
  // Four vectors at a time: a multiplication takes long, and few ids pass.
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    const VU64 c1 = hn::Add(counter, step);
    const VU64 c2 = hn::Add(c1, step);
    const VU64 c3 = hn::Add(c2, step);
    const auto low = hn::Min(hn::Min(Mix(counter), Mix(c1)), hn::Min(Mix(c2), Mix(c3)));
    if (HWY_UNLIKELY(!hn::AllFalse(d, hn::Lt(low, limit)))) break;
    counter = hn::Add(c3, step);
  }
  for (; i < count; ++i) {
    if (Mix64(start + static_cast<uint64_t>(i) * kGoldenGamma) < threshold) return i;
  }
  return count;
}

}  // namespace HWY_NAMESPACE
}  // namespace lockstep::worker::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lockstep::worker {
namespace simd {
namespace {

HWY_EXPORT(MaxOf);
HWY_EXPORT(FirstAbove);
HWY_EXPORT(SumOfExp);
HWY_EXPORT(ExpOf);
HWY_EXPORT(FirstMixBelow);

float DispatchMaxOf(std::span<const float> x) {
  return HWY_DYNAMIC_DISPATCH(MaxOf)(x.data(), static_cast<int64_t>(x.size()));
}
int64_t DispatchFirstAbove(std::span<const float> x, int64_t begin, float threshold) {
  return HWY_DYNAMIC_DISPATCH(FirstAbove)(x.data(), begin, static_cast<int64_t>(x.size()),
                                          threshold);
}
double DispatchSumOfExp(std::span<const float> x, double max, double scale) {
  return HWY_DYNAMIC_DISPATCH(SumOfExp)(x.data(), static_cast<int64_t>(x.size()), max, scale);
}
void DispatchExpOf(std::span<const float> x, double max, double scale, double* out) {
  HWY_DYNAMIC_DISPATCH(ExpOf)(x.data(), static_cast<int64_t>(x.size()), max, scale, out);
}
int64_t DispatchFirstMixBelow(uint64_t start, int64_t begin, int64_t count, uint64_t threshold) {
  return HWY_DYNAMIC_DISPATCH(FirstMixBelow)(start, begin, count, threshold);
}

}  // namespace
}  // namespace simd

float MaxOf(std::span<const float> logits) { return simd::DispatchMaxOf(logits); }

int64_t FirstAbove(std::span<const float> logits, int64_t begin, float threshold) {
  return simd::DispatchFirstAbove(logits, begin, threshold);
}

double SumOfExp(std::span<const float> logits, double max, double scale) {
  return simd::DispatchSumOfExp(logits, max, scale);
}

void ExpOf(std::span<const float> logits, double max, double scale, std::span<double> out) {
  simd::DispatchExpOf(logits, max, scale, out.data());
}

int64_t FirstMixBelow(uint64_t start, int64_t begin, int64_t count, uint64_t threshold) {
  return simd::DispatchFirstMixBelow(start, begin, count, threshold);
}

}  // namespace lockstep::worker
#endif  // HWY_ONCE
