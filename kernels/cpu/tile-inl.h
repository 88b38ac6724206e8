// The register tile under products and attention: R rows of x against 32-wide panels, accumulators
// in registers. Included once per instruction set.
#if defined(LOCKSTEP_KERNELS_CPU_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LOCKSTEP_KERNELS_CPU_TILE_INL_H_
#undef LOCKSTEP_KERNELS_CPU_TILE_INL_H_
#else
#define LOCKSTEP_KERNELS_CPU_TILE_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <utility>

#include "hwy/highway.h"
#include "kernels/cpu/panels.h"

HWY_BEFORE_NAMESPACE();
namespace lockstep::kernels::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, 16>;
using U32 = hn::Repartition<uint32_t, F32>;
using VF = hn::Vec<F32>;

constexpr int kLanes = static_cast<int>(hn::MaxLanes(F32()));
// Vectors across one panel.
constexpr int kPanelVectors = kPanelWidth / kLanes;
// The most rows of a tile of P panels whose accumulators stay in registers: AVX-512 has 32 of
// them, AVX2 16.
template <int P>
constexpr int kTileRows = kLanes == 16  ? (P == 1 ? 12 : 6)
                          : kLanes == 8 ? 3
                                        : 1;

// What a tile asks for in passing: nothing; TileCall::upcoming, line by line; or its own lines some
// way ahead, and towards the end the first ones of `upcoming`, for which there is no time else: the
// processor's own prefetchers begin anew at every page of a stream.
enum class Prefetch { kNone, kUpcoming, kAhead };
// 1.5 KiB of bf16 per stream: 1.09 times the bandwidth of none, on an Ice Lake Xeon.
constexpr int64_t kAheadLines = 24;

// How x[r, k] and the lines of a panel are found. x stands at x[k * R + r] when kXStride is 0, else
// at x[r * kXStride + k]. Panels lie panel_stride elements apart; line k follows line k - 1 when
// kInterleave is 1, else lines are in kInterleave streams of kStreamLines lines, as in Panels.
template <typename W>
struct TileCall {
  const float* x;
  const W* panels;
  int64_t panel_stride;
  int64_t depth;       // a multiple of the interleave
  const float* start;  // accumulators to go on from, or null for zeros
  int64_t start_stride;
  float* y;
  int64_t y_stride;
  // What is multiplied next, in the same order; null if a tile that asks for nothing is called.
  const W* upcoming;
};

// One line of a panel as fp32 vectors, output features in order.
HWY_INLINE void LoadLine(const float* HWY_RESTRICT from, VF (&to)[kPanelVectors]) {
#pragma GCC unroll 8
  for (int v = 0; v < kPanelVectors; ++v) to[v] = hn::LoadU(F32(), from + v * kLanes);
}

HWY_INLINE void LoadLine(const uint16_t* HWY_RESTRICT from, VF (&to)[kPanelVectors]) {
  const U32 du;
  const auto high_half = hn::Set(du, 0xffff0000u);
#pragma GCC unroll 4
  for (int v = 0; v < kPanelVectors / 2; ++v) {
    const auto pair = hn::LoadU(du, reinterpret_cast<const uint32_t*>(from) + v * kLanes);
    to[v] = hn::BitCast(F32(), hn::ShiftLeft<16>(pair));
    to[kPanelVectors / 2 + v] = hn::BitCast(F32(), hn::And(pair, high_half));
  }
}

// y[r, p * 32 ..] = start + sum over ascending k of x[r, k] * line k of panel p, for R rows and P
// panels: for each element one chain of fused multiply-adds.
template <int R, int P, int kXStride, int kInterleave, typename W,
          Prefetch kPrefetch = Prefetch::kNone>
HWY_INLINE void Tile(const TileCall<W>& call) {
  const F32 d;
  VF sum[R][P][kPanelVectors];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int i = 0; i < P * kPanelVectors; ++i) {
      sum[r][i / kPanelVectors][i % kPanelVectors] =
          call.start == nullptr ? hn::Zero(d)
                                : hn::LoadU(d, call.start + r * call.start_stride + i * kLanes);
    }
  }
  constexpr int64_t kStreamStride = kInterleave == 1 ? 0 : kStreamLines * kPanelWidth;
  const float* HWY_RESTRICT x = call.x;
  const W* HWY_RESTRICT panels = call.panels;
  const int64_t panel_stride = call.panel_stride;
  const int64_t steps = call.depth / kInterleave;
  for (int64_t i = 0; i < steps; ++i) {
    [[maybe_unused]] const W* ahead = i + kAheadLines < steps
                                          ? panels + (i + kAheadLines) * kPanelWidth
                                          : call.upcoming + (i + kAheadLines - steps) * kPanelWidth;
#pragma GCC unroll 4
    for (int s = 0; s < kInterleave; ++s) {
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        if constexpr (kPrefetch == Prefetch::kUpcoming) {
          __builtin_prefetch(call.upcoming + s * kStreamStride + i * kPanelWidth, 0, 2);
        }
        if constexpr (kPrefetch == Prefetch::kAhead) {
          __builtin_prefetch(ahead + p * panel_stride + s * kStreamStride, 0, 3);
        }
        VF w[kPanelVectors];
        LoadLine(panels + p * panel_stride + s * kStreamStride + i * kPanelWidth, w);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          const VF xr = hn::Set(d, kXStride == 0 ? x[(i * kInterleave + s) * R + r]
                                                 : x[r * kXStride + i * kInterleave + s]);
#pragma GCC unroll 8
          for (int v = 0; v < kPanelVectors; ++v) {
            sum[r][p][v] = hn::MulAdd(w[v], xr, sum[r][p][v]);
          }
        }
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int i = 0; i < P * kPanelVectors; ++i) {
      hn::StoreU(sum[r][i / kPanelVectors][i % kPanelVectors], d,
                 call.y + r * call.y_stride + i * kLanes);
    }
  }
}

template <int R, int P, int kXStride, int kInterleave, typename W,
          Prefetch kPrefetch = Prefetch::kNone>
HWY_NOINLINE void RunTile(const TileCall<W>& call) {
  Tile<R, P, kXStride, kInterleave, W, kPrefetch>(call);
}

template <int P, int kXStride, int kInterleave, Prefetch kPrefetch, typename W, int... kRowsMinus1>
HWY_INLINE void RunTileOfRows(int64_t rows, const TileCall<W>& call,
                              std::integer_sequence<int, kRowsMinus1...>) {
  using Function = void (*)(const TileCall<W>&);
  static constexpr Function kTable[] = {
      &RunTile<kRowsMinus1 + 1, P, kXStride, kInterleave, W, kPrefetch>...};
  kTable[rows - 1](call);
}

// 1 .. kTileRows<P> rows, P panels.
template <int P, int kXStride, int kInterleave, typename W, Prefetch kPrefetch = Prefetch::kNone>
HWY_INLINE void RunTile(int64_t rows, const TileCall<W>& call) {
  RunTileOfRows<P, kXStride, kInterleave, kPrefetch>(
      rows, call, std::make_integer_sequence<int, kTileRows<P>>());
}

#if HWY_TARGET != HWY_SCALAR
// Four rows by four columns, transposed.
HWY_INLINE void Transpose4x4(const float* x, int64_t stride, float* to, int64_t to_stride) {
  const hn::FixedTag<float, 4> d;
  const hn::Repartition<double, decltype(d)> pairs;
  const auto a = hn::LoadU(d, x);
  const auto b = hn::LoadU(d, x + stride);
  const auto c = hn::LoadU(d, x + 2 * stride);
  const auto e = hn::LoadU(d, x + 3 * stride);
  const auto ab_low = hn::BitCast(pairs, hn::InterleaveLower(d, a, b));
  const auto ab_high = hn::BitCast(pairs, hn::InterleaveUpper(d, a, b));
  const auto ce_low = hn::BitCast(pairs, hn::InterleaveLower(d, c, e));
  const auto ce_high = hn::BitCast(pairs, hn::InterleaveUpper(d, c, e));
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, ab_low, ce_low)), d, to);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, ab_low, ce_low)), d, to + to_stride);
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, ab_high, ce_high)), d, to + 2 * to_stride);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, ab_high, ce_high)), d, to + 3 * to_stride);
}

#endif

// Writes `rows` rows of x as [cols][rows], what Tile wants with kXStride 0.
HWY_INLINE void TransposeTo(const float* x, int64_t stride, int64_t rows, int64_t cols,
                            float* packed) {
  int64_t k = 0;
#if HWY_TARGET != HWY_SCALAR
  for (; rows >= 4 && k + 4 <= cols; k += 4) {
    // The last group overlaps the one before when the rows are no multiple of four.
    for (int64_t r = 0; r < rows; r += 4) {
      int64_t from = std::min(r, rows - 4);
      Transpose4x4(x + from * stride + k, stride, packed + k * rows + from, rows);
    }
  }
#endif
  for (; k < cols; ++k) {
    for (int64_t r = 0; r < rows; ++r) packed[k * rows + r] = x[r * stride + k];
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lockstep::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // LOCKSTEP_KERNELS_CPU_TILE_INL_H_
