// Single weights of any element type and alignment: reading, storing, and the check that they are
// finite. The vector code has its own of each.
#ifndef LOCKSTEP_KERNELS_CPU_CONVERT_H_
#define LOCKSTEP_KERNELS_CPU_CONVERT_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/dtype.h"

namespace lockstep::kernels::cpu {

/// Element i of `from`, of `dtype` and any alignment.
inline float LoadElement(const std::byte* from, DType dtype, int64_t i) {
  if (dtype == DType::kF32) {
    float value;
    std::memcpy(&value, from + 4 * i, sizeof(value));
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, from + 2 * i, sizeof(bits));
  return dtype == DType::kBF16 ? Bf16ToFloat(bits) : F16ToFloat(bits);
}

/// Whether `value` is finite, and still so when stored as `storage`, kF32 or kBF16.
inline bool IsFiniteAs(DType storage, float value) {
  return std::isfinite(storage == DType::kF32 ? value : Bf16ToFloat(FloatToBf16(value)));
}

/// Element i of `to` = value, rounded to nearest even. Returns IsFiniteAs.
inline bool StoreElement(float value, DType storage, std::byte* to, int64_t i) {
  if (storage == DType::kF32) {
    std::memcpy(to + 4 * i, &value, sizeof(value));
  } else {
    uint16_t bits = FloatToBf16(value);
    std::memcpy(to + 2 * i, &bits, sizeof(bits));
  }
  return IsFiniteAs(storage, value);
}

}  // namespace lockstep::kernels::cpu

#endif  // LOCKSTEP_KERNELS_CPU_CONVERT_H_
