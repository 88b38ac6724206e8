// The packed layout that our own product reads: output features in panels of 32, the input feature
// running slowest inside a panel, so that vector lanes are output features.
#ifndef LOCKSTEP_KERNELS_CPU_PANELS_H_
#define LOCKSTEP_KERNELS_CPU_PANELS_H_

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace lockstep::kernels::cpu {

inline constexpr int kPanelWidth = 32;
inline constexpr int kHalfPanel = kPanelWidth / 2;

/// A weight [out_features, in_features] as panels: panel p holds output features [32 p, 32 p + 32),
/// absent ones as zeros, [in_features][32] elements of `storage`. In fp32 they lie in order. In
/// bf16 features j and 16 + j are neighbours (the low and the high half of one 32-bit word), so
/// that a shift and a mask of one 64-byte load give two fp32 vectors in order. Not owned.
struct Panels {
  const std::byte* data = nullptr;
  int64_t out_features = 0;
  int64_t in_features = 0;
  DType storage = DType::kF32;

  int64_t count() const { return (out_features + kPanelWidth - 1) / kPanelWidth; }
  int64_t panel_bytes() const {
    return in_features * kPanelWidth * static_cast<int64_t>(SizeOf(storage));
  }
  int64_t bytes() const { return count() * panel_bytes(); }
  const std::byte* panel(int64_t p) const { return data + p * panel_bytes(); }
};

/// Where output feature `lane` of a panel stands among the 32 elements of one input feature.
constexpr int SlotOfLane(int lane, DType storage) {
  if (storage == DType::kF32) return lane;
  return lane < kHalfPanel ? 2 * lane : 2 * (lane - kHalfPanel) + 1;
}

}  // namespace lockstep::kernels::cpu

#endif  // LOCKSTEP_KERNELS_CPU_PANELS_H_
