// The register tile under products and attention: R rows of x against 32-wide panels, accumulators
// in registers. Included once per instruction set.
#if defined(LOCKSTEP_KERNELS_CPU_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LOCKSTEP_KERNELS_CPU_TILE_INL_H_
#undef LOCKSTEP_KERNELS_CPU_TILE_INL_H_
#else
#define LOCKSTEP_KERNELS_CPU_TILE_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lockstep::kernels::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, 16>;
using U32 = hn::Repartition<uint32_t, F32>;
using VF = hn::Vec<F32>;

constexpr int kLanes = static_cast<int>(hn::MaxLanes(F32()));
// Vectors across one panel of 32.
constexpr int kPanelVectors = 32 / kLanes;
// 14 x 2 accumulators of AVX-512's 32 registers, 3 x 4 of AVX2's 16.
constexpr int kMaxRows = kLanes == 16 ? 14 : kLanes == 8 ? 3 : 1;

// One input feature of a panel as fp32 vectors, output features in order.
HWY_INLINE void LoadPanelRow(const float* HWY_RESTRICT from, VF (&to)[kPanelVectors]) {
#pragma GCC unroll 8
  for (int v = 0; v < kPanelVectors; ++v) to[v] = hn::Load(F32(), from + v * kLanes);
}

HWY_INLINE void LoadPanelRow(const uint16_t* HWY_RESTRICT from, VF (&to)[kPanelVectors]) {
  const U32 du;
  const auto high_half = hn::Set(du, 0xffff0000u);
#pragma GCC unroll 4
  for (int v = 0; v < kPanelVectors / 2; ++v) {
    const auto pair = hn::Load(du, reinterpret_cast<const uint32_t*>(from) + v * kLanes);
    to[v] = hn::BitCast(F32(), hn::ShiftLeft<16>(pair));
    to[kPanelVectors / 2 + v] = hn::BitCast(F32(), hn::And(pair, high_half));
  }
}

// y[r, p * 32 ..] (+)= sum over k of x[r, k] * panel p[k], for R rows and P panels that lie
// panel_stride elements apart. x[r, k] stands at x[k * R + r] when kXStride is 0, else at
// x[r * kXStride + k]. kPrefetch bytes ahead of each stream are asked for, 0 for none.
template <int R, int P, int kXStride, int kPrefetch, typename W>
HWY_INLINE void Tile(const float* HWY_RESTRICT x, const W* HWY_RESTRICT panels,
                     int64_t panel_stride, int64_t depth, float* HWY_RESTRICT y, int64_t y_stride,
                     bool accumulate) {
  const F32 d;
  VF sum[R][P][kPanelVectors];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 8
      for (int v = 0; v < kPanelVectors; ++v) {
        sum[r][p][v] =
            accumulate ? hn::LoadU(d, y + r * y_stride + p * 32 + v * kLanes) : hn::Zero(d);
      }
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      const W* HWY_RESTRICT from = panels + p * panel_stride + k * 32;
      if (kPrefetch > 0) {
        __builtin_prefetch(reinterpret_cast<const char*>(from) + kPrefetch, 0, 0);
      }
      VF w[kPanelVectors];
      LoadPanelRow(from, w);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const VF xr = hn::Set(d, kXStride == 0 ? x[k * R + r] : x[r * kXStride + k]);
#pragma GCC unroll 8
        for (int v = 0; v < kPanelVectors; ++v) {
          sum[r][p][v] = hn::MulAdd(w[v], xr, sum[r][p][v]);
        }
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 8
      for (int v = 0; v < kPanelVectors; ++v) {
        hn::StoreU(sum[r][p][v], d, y + r * y_stride + p * 32 + v * kLanes);
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lockstep::kernels::cpu
HWY_AFTER_NAMESPACE();

#endif  // LOCKSTEP_KERNELS_CPU_TILE_INL_H_
