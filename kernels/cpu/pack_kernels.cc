// Packs blocks of 32 x 32 weights: rows are converted and checked into a stage in L1, which is then
// transposed four columns at a time.
#include "kernels/cpu/pack_kernels.h"

#include <cstring>

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/pack_kernels.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, as Highway wants it.
#include "hwy/highway.h"
#include "kernels/cpu/convert.h"

HWY_BEFORE_NAMESPACE();
namespace lockstep::kernels::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, 16>;
using U32 = hn::Repartition<uint32_t, F32>;
using I32 = hn::Repartition<int32_t, F32>;
using U16 = hn::Rebind<uint16_t, F32>;
using F16 = hn::Rebind<hwy::float16_t, F32>;
using VU32 = hn::Vec<U32>;
constexpr int64_t kLanes = hn::MaxLanes(F32());
// Two bf16 blocks ahead: 5 GB/s, against 3 without.
constexpr int64_t kPrefetchBytes = 128;

// One vector of source elements as fp32 bits.
HWY_INLINE VU32 LoadBits(const std::byte* from, DType dtype) {
  const U32 d;
  const U16 d16;
  switch (dtype) {
    case DType::kF32:
      return hn::LoadU(d, reinterpret_cast<const uint32_t*>(from));
    case DType::kBF16:
      return hn::ShiftLeft<16>(
          hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(from))));
    case DType::kF16:
      break;
  }
  const auto half = hn::LoadU(d16, reinterpret_cast<const uint16_t*>(from));
  return hn::BitCast(d, hn::PromoteTo(F32(), hn::BitCast(F16(), half)));
}

HWY_INLINE void StoreAs(VU32 bits, uint32_t* to) { hn::StoreU(bits, U32(), to); }

// To bf16, rounded to nearest even.
HWY_INLINE void StoreAs(VU32 bits, uint16_t* to) {
  const U32 d;
  const VU32 odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d, 1u));
  const VU32 rounded = hn::ShiftRight<16>(hn::Add(hn::Add(bits, hn::Set(d, 0x7fffu)), odd));
  hn::StoreU(hn::DemoteTo(U16(), hn::BitCast(I32(), rounded)), U16(), to);
}

// Converts `cols` elements, a multiple of the vector's; false when one is not finite. bf16 is kept
// by its bits, fp32 by its word.
template <typename T>
HWY_INLINE bool ConvertVectors(const std::byte* from, DType dtype, int64_t cols, T* to) {
  const U32 d;
  // Rounding to bf16 can carry a finite value to infinity: half a step below it is already too big.
  const VU32 limit = hn::Set(d, sizeof(T) == 2 ? 0x7f7f8000u : 0x7f800000u);
  const VU32 magnitude = hn::Set(d, 0x7fffffffu);
  VU32 largest = hn::Zero(d);
  for (int64_t i = 0; i < cols; i += kLanes) {
    const VU32 bits = LoadBits(from + i * static_cast<int64_t>(SizeOf(dtype)), dtype);
    largest = hn::Max(largest, hn::And(bits, magnitude));
    StoreAs(bits, to + i);
  }
  return hn::AllTrue(d, hn::Lt(largest, limit));
}

#if HWY_TARGET == HWY_SCALAR
template <typename T>
void TransposeBlock(const T (&stage)[kPanelWidth][kPackColumns], int64_t first,
                    const Panels& panels, T* panel) {
  for (int64_t k = 0; k < kPackColumns; ++k) {
    T* line = panel + panels.line(first + k) * kPanelWidth;
    for (int64_t r = 0; r < kPanelWidth; ++r) line[panels.slot(r)] = stage[r][k];
  }
}
#else
using W4 = hn::FixedTag<uint32_t, 4>;
using V4 = hn::Vec<W4>;

// Four words of each of four rows into four lines' words [at, at + 4).
HWY_INLINE void StoreTransposed(V4 a, V4 b, V4 c, V4 e, uint32_t* const* lines, int64_t at) {
  const W4 d;
  const hn::Repartition<uint64_t, W4> pairs;
  const auto ab_low = hn::BitCast(pairs, hn::InterleaveLower(d, a, b));
  const auto ab_high = hn::BitCast(pairs, hn::InterleaveUpper(d, a, b));
  const auto ce_low = hn::BitCast(pairs, hn::InterleaveLower(d, c, e));
  const auto ce_high = hn::BitCast(pairs, hn::InterleaveUpper(d, c, e));
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, ab_low, ce_low)), d, lines[0] + at);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, ab_low, ce_low)), d, lines[1] + at);
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, ab_high, ce_high)), d, lines[2] + at);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, ab_high, ce_high)), d, lines[3] + at);
}

void TransposeBlock(const uint32_t (&stage)[kPanelWidth][kPackColumns], int64_t first,
                    const Panels& panels, uint32_t* panel) {
  const W4 d;
  for (int64_t k = 0; k < kPackColumns; k += 4) {
    uint32_t* lines[4];
    for (int64_t i = 0; i < 4; ++i) lines[i] = panel + panels.line(first + k + i) * kPanelWidth;
    for (int64_t r = 0; r < kPanelWidth; r += 4) {
      StoreTransposed(hn::Load(d, stage[r] + k), hn::Load(d, stage[r + 1] + k),
                      hn::Load(d, stage[r + 2] + k), hn::Load(d, stage[r + 3] + k), lines, r);
    }
  }
}

// Rows j and 16 + j become the halves of words first.
void TransposeBlock(const uint16_t (&stage)[kPanelWidth][kPackColumns], int64_t first,
                    const Panels& panels, uint16_t* panel) {
  const hn::Repartition<uint16_t, W4> d;
  const W4 words;
  for (int64_t k = 0; k < kPackColumns; k += 8) {
    uint32_t* lines[8];
    for (int64_t i = 0; i < 8; ++i) {
      lines[i] = reinterpret_cast<uint32_t*>(panel + panels.line(first + k + i) * kPanelWidth);
    }
    for (int64_t r = 0; r < kHalfPanel; r += 4) {
      V4 low[4], high[4];
#pragma GCC unroll 4
      for (int64_t i = 0; i < 4; ++i) {
        const auto a = hn::Load(d, stage[r + i] + k);
        const auto b = hn::Load(d, stage[kHalfPanel + r + i] + k);
        low[i] = hn::BitCast(words, hn::InterleaveLower(d, a, b));
        high[i] = hn::BitCast(words, hn::InterleaveUpper(d, a, b));
      }
      StoreTransposed(low[0], low[1], low[2], low[3], lines, r);
      StoreTransposed(high[0], high[1], high[2], high[3], lines + 4, r);
    }
  }
}
#endif

template <typename T>
bool PackTyped(const std::byte* source, int64_t stride_bytes, DType dtype, int64_t first,
               const Panels& panels, std::byte* panel) {
  alignas(64) T stage[kPanelWidth][kPackColumns];
  bool finite = true;
  for (int64_t r = 0; r < kPanelWidth; ++r) {
    const std::byte* from = source + r * stride_bytes + first * static_cast<int64_t>(SizeOf(dtype));
    // Thirty-two rows are too many streams for the memory prefetchers.
    __builtin_prefetch(from + kPrefetchBytes);
    finite &= ConvertVectors(from, dtype, kPackColumns, stage[r]);
  }
  TransposeBlock(stage, first, panels, reinterpret_cast<T*>(panel));
  return finite;
}

bool PackBlockImpl(const std::byte* source, int64_t stride_bytes, DType dtype, int64_t first,
                   const Panels& panels, std::byte* panel) {
  if (panels.storage == DType::kF32) {
    return PackTyped<uint32_t>(source, stride_bytes, dtype, first, panels, panel);
  }
  return PackTyped<uint16_t>(source, stride_bytes, dtype, first, panels, panel);
}

bool ConvertRowImpl(const std::byte* source, DType dtype, int64_t cols, DType storage,
                    std::byte* to) {
  int64_t whole = cols / kLanes * kLanes;
  bool finite = storage == DType::kF32
                    ? ConvertVectors(source, dtype, whole, reinterpret_cast<uint32_t*>(to))
                    : ConvertVectors(source, dtype, whole, reinterpret_cast<uint16_t*>(to));
  for (int64_t i = whole; i < cols; ++i) {
    finite &= StoreElement(LoadElement(source, dtype, i), storage, to, i);
  }
  return finite;
}

}  // namespace HWY_NAMESPACE
}  // namespace lockstep::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lockstep::kernels::cpu {

HWY_EXPORT(PackBlockImpl);
HWY_EXPORT(ConvertRowImpl);

bool PackBlock(const std::byte* source, int64_t stride_bytes, DType dtype, int64_t first,
               const Panels& panels, std::byte* panel) {
  return HWY_DYNAMIC_DISPATCH(PackBlockImpl)(source, stride_bytes, dtype, first, panels, panel);
}

bool ConvertRow(const std::byte* source, DType dtype, int64_t cols, DType storage, std::byte* to) {
  return HWY_DYNAMIC_DISPATCH(ConvertRowImpl)(source, dtype, cols, storage, to);
}

}  // namespace lockstep::kernels::cpu
#endif  // HWY_ONCE
