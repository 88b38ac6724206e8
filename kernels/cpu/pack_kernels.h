// The vector code of packing, compiled once per instruction set and chosen at run time.
#ifndef LOCKSTEP_KERNELS_CPU_PACK_KERNELS_H_
#define LOCKSTEP_KERNELS_CPU_PACK_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "kernels/cpu/panels.h"

namespace lockstep::kernels::cpu {

/// Columns that are packed at once: one cache line of each bf16 source row.
inline constexpr int64_t kPackColumns = 32;

/// Packs a whole panel's 32 rows, columns [first, first + kPackColumns), into `panel`, the memory
/// of one of `panels`. Row r begins at source + r * stride_bytes (column 0), elements of `dtype` at
/// any alignment. Returns false when a value is not finite, as read or as stored.
bool PackBlock(const std::byte* source, int64_t stride_bytes, DType dtype, int64_t first,
               const Panels& panels, std::byte* panel);

/// to[0 .. cols) = source[0 .. cols) converted from `dtype` to `storage` (kF32 or kBF16, rounded to
/// nearest even), both at any alignment. Returns false when a value is not finite, as read or as
/// stored.
bool ConvertRow(const std::byte* source, DType dtype, int64_t cols, DType storage, std::byte* to);

}  // namespace lockstep::kernels::cpu

#endif  // LOCKSTEP_KERNELS_CPU_PACK_KERNELS_H_
