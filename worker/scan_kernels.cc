// Ends that fill no vector are done one element at a time, or as a padded vector.
#include "worker/scan_kernels.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <numbers>

#include "worker/hash.h"

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "worker/scan_kernels.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, as Highway wants it.
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

constexpr float kLowest = -std::numeric_limits<float>::infinity();

void BlockMaxima(const float* x, int64_t n, float* out) {
  const F32 d;
  constexpr int64_t kLanes = hn::MaxLanes(F32());
  const auto lowest = hn::Set(d, kLowest);
  int64_t i = 0;
  for (; i + kMaximaBlock <= n; i += kMaximaBlock) {
    auto max = lowest;
#pragma GCC unroll 16
    for (int64_t j = 0; j < kMaximaBlock; j += kLanes) {
      const auto v = hn::LoadU(d, x + i + j);
      // A comparison with a NaN is false.
      max = hn::IfThenElse(hn::Gt(v, max), v, max);
    }
    *out++ = hn::GetLane(hn::MaxOfLanes(d, max));
  }
  if (i == n) return;
  float max = kLowest;
  for (; i < n; ++i) max = x[i] > max ? x[i] : max;
  *out = max;
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

// exp(x) = 2^n 2^f with n the integer nearest to x log2(e), the latter by a polynomial: minimax to
// 8e-13 relative. Half the work of a correctly rounded one.
HWY_INLINE VF64 FastExp(VF64 x) {
  const F64 d;
  const U64 du;
  // Adding it leaves the integer in the low bits.
  const VF64 magic = hn::Set(d, 0x1.8p52);
  const VF64 y = hn::Mul(x, hn::Set(d, std::numbers::log2e));
  const VF64 shifted = hn::Add(y, magic);
  const VF64 f = hn::Sub(y, hn::Sub(shifted, magic));
  constexpr double kCoefficients[] = {
      1.3255224878668816975e-6, 0.000015310079402249297437, 0.00015403455852453839442,
      0.0013333450568000645685, 0.0096181291594025581885,   0.055504109412059329931,
      0.2402265069581298821,    0.69314718054593345493,     1.0};
  VF64 p = hn::Set(d, kCoefficients[0]);
#pragma GCC unroll 16
  for (size_t i = 1; i < std::size(kCoefficients); ++i) {
    p = hn::MulAdd(p, f, hn::Set(d, kCoefficients[i]));
  }
  const VU64 n = hn::ShiftLeft<52>(hn::BitCast(du, shifted));
  const VF64 exp = hn::BitCast(d, hn::Add(hn::BitCast(du, p), n));
  return hn::IfThenElse(hn::Lt(x, hn::Set(d, -700.0)), hn::Zero(d), exp);
}

HWY_INLINE VF64 ExpAt(const float* x, VF64 max, VF64 scale) {
  const F64 d;
  const VF64 logits = hn::PromoteTo(d, hn::LoadU(F32Half(), x));
  return FastExp(hn::Mul(hn::Sub(logits, max), scale));
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
  VF64 sum[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      sum[j] = hn::Add(sum[j], ExpAt(x + i + j * kLanes, max_v, scale_v));
    }
  }
  const VF64 all = hn::Add(hn::Add(sum[0], sum[1]), hn::Add(sum[2], sum[3]));
  double total = hn::GetLane(hn::SumOfLanes(d, all));
  alignas(64) double rest[4 * kLanes];
  ExpOf(x + i, n - i, max, scale, rest);
  for (int64_t j = 0; j < n - i; ++j) total += rest[j];
  return total;
}

// Mix64 without its last step, which leaves the upper 31 bits as they are.
HWY_INLINE VU64 AlmostMix(VU64 x) {
  const U64 d;
  x = hn::Mul(hn::Xor(x, hn::ShiftRight<30>(x)), hn::Set(d, 0xbf58476d1ce4e5b9u));
  return hn::Mul(hn::Xor(x, hn::ShiftRight<27>(x)), hn::Set(d, 0x94d049bb133111ebu));
}

int64_t FirstMixBelow(uint64_t start, int64_t begin, int64_t count, const double* fractions,
                      double scale) {
  const U64 d;
  constexpr int64_t kLanes = hn::MaxLanes(U64());
  static_assert(kMaximaBlock % (4 * kLanes) == 0);
  const VU64 step = hn::Set(d, kGoldenGamma * kLanes);
  const VU64 lanes = hn::Mul(hn::Iota(d, 0), hn::Set(d, kGoldenGamma));
  const auto at = [&](int64_t i) { return start + static_cast<uint64_t>(i) * kGoldenGamma; };
  const auto first_in = [&](int64_t i, int64_t end, uint64_t threshold) {
    while (i < end && Mix64(at(i)) >= threshold) ++i;
    return i;
  };
  for (int64_t i = begin; i < count;) {
    const int64_t end = std::min(count, (i / kMaximaBlock + 1) * kMaximaBlock);
    const uint64_t threshold = MixThreshold(fractions[i / kMaximaBlock] * scale);
    // Whatever is below the threshold is so in its upper bits, or equal in those.
    const VU64 limit = hn::Set(d, threshold | 0x1ffffffffu);
    VU64 counter = hn::Add(hn::Set(d, at(i)), lanes);
    // Four vectors at a time: a multiplication takes long, and few ids pass.
    for (; i + 4 * kLanes <= end; i += 4 * kLanes) {
      const VU64 c1 = hn::Add(counter, step);
      const VU64 c2 = hn::Add(c1, step);
      const VU64 c3 = hn::Add(c2, step);
      const auto low = hn::Min(hn::Min(AlmostMix(counter), AlmostMix(c1)),
                               hn::Min(AlmostMix(c2), AlmostMix(c3)));
      counter = hn::Add(c3, step);
      if (HWY_LIKELY(hn::AllTrue(d, hn::Lt(limit, low)))) continue;
      const int64_t first = first_in(i, i + 4 * kLanes, threshold);
      if (first < i + 4 * kLanes) return first;
    }
    i = first_in(i, end, threshold);
    if (i < end) return i;
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

HWY_EXPORT(BlockMaxima);
HWY_EXPORT(FirstAbove);
HWY_EXPORT(SumOfExp);
HWY_EXPORT(ExpOf);
HWY_EXPORT(FirstMixBelow);

void DispatchBlockMaxima(std::span<const float> x, float* out) {
  HWY_DYNAMIC_DISPATCH(BlockMaxima)(x.data(), static_cast<int64_t>(x.size()), out);
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
int64_t DispatchFirstMixBelow(uint64_t start, int64_t begin, int64_t count,
                              std::span<const double> fractions, double scale) {
  return HWY_DYNAMIC_DISPATCH(FirstMixBelow)(start, begin, count, fractions.data(), scale);
}

}  // namespace
}  // namespace simd

void BlockMaxima(std::span<const float> logits, std::span<float> out) {
  simd::DispatchBlockMaxima(logits, out.data());
}

int64_t FirstAbove(std::span<const float> logits, int64_t begin, float threshold) {
  return simd::DispatchFirstAbove(logits, begin, threshold);
}

double SumOfExp(std::span<const float> logits, double max, double scale) {
  return simd::DispatchSumOfExp(logits, max, scale);
}

void ExpOf(std::span<const float> logits, double max, double scale, std::span<double> out) {
  simd::DispatchExpOf(logits, max, scale, out.data());
}

int64_t FirstMixBelow(uint64_t start, int64_t begin, int64_t count,
                      std::span<const double> fractions, double scale) {
  return simd::DispatchFirstMixBelow(start, begin, count, fractions, scale);
}

}  // namespace lockstep::worker
#endif  // HWY_ONCE
