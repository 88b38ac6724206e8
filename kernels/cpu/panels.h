// The packed layout that our own product reads: output features in panels of 32, so that vector
// lanes are output features.
#ifndef LOCKSTEP_KERNELS_CPU_PANELS_H_
#define LOCKSTEP_KERNELS_CPU_PANELS_H_

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace lockstep::kernels::cpu {

inline constexpr int kPanelWidth = 32;
inline constexpr int kHalfPanel = kPanelWidth / 2;

/// Input features that are multiplied in one pass: one fp32 slab of 256 x 32 takes 32 KiB.
inline constexpr int64_t kChunk = 256;
/// Streams that a chunk of bf16 lies in. One stream of 64-byte lines per panel leaves the memory
/// prefetchers idle at every page border; several pages in flight hide it.
inline constexpr int64_t kStreams = 4;
inline constexpr int64_t kStreamLines = kChunk / kStreams;

/// A weight [out_features, in_features] as panels: panel p holds output features [32 p, 32 p + 32),
/// absent ones as zeros, as in_features lines of 32 elements. Not owned.
///
/// fp32: line k is input feature k, output features in order.
/// bf16: inside a line, features j and 16 + j are neighbours (the low and the high half of one
/// 32-bit word), so that a shift and a mask of one 64-byte load give two fp32 vectors in order.
/// In each whole chunk of 256, feature 4 i + s is line 64 s + i: four streams of one 4 KiB page.
struct Panels {
  const std::byte* data = nullptr;
  int64_t out_features = 0;
  int64_t in_features = 0;
  DType storage = DType::kF32;

  int64_t count() const { return (out_features + kPanelWidth - 1) / kPanelWidth; }
  int64_t line_bytes() const { return kPanelWidth * static_cast<int64_t>(SizeOf(storage)); }
  int64_t panel_bytes() const { return in_features * line_bytes(); }
  int64_t bytes() const { return count() * panel_bytes(); }
  const std::byte* panel(int64_t p) const { return data + p * panel_bytes(); }

  /// The line of input feature k.
  int64_t line(int64_t k) const {
    int64_t chunk = k / kChunk * kChunk;
    if (storage == DType::kF32 || chunk + kChunk > in_features) return k;
    return chunk + (k - chunk) % kStreams * kStreamLines + (k - chunk) / kStreams;
  }

  /// The element of output feature `lane` of the panel within a line.
  int64_t slot(int64_t lane) const {
    if (storage == DType::kF32) return lane;
    return lane < kHalfPanel ? 2 * lane : 2 * (lane - kHalfPanel) + 1;
  }
};

}  // namespace lockstep::kernels::cpu

#endif  // LOCKSTEP_KERNELS_CPU_PANELS_H_
