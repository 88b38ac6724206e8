// Conversion of short runs of weights between element types, and the check that they are finite.
#ifndef LOCKSTEP_KERNELS_CPU_CONVERT_H_
#define LOCKSTEP_KERNELS_CPU_CONVERT_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/dtype.h"

namespace lockstep::kernels::cpu {

inline bool IsFinite(uint16_t bf16) { return (bf16 & 0x7f80u) != 0x7f80u; }
inline bool IsFinite(float value) {
  return (std::bit_cast<uint32_t>(value) & 0x7f800000u) != 0x7f800000u;
}

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

/// to[0 .. count) = from[0 .. count), converted; exact to fp32, rounded to nearest even to bf16.
inline void ConvertRun(const std::byte* from, DType dtype, int64_t count, float* to) {
  if (dtype == DType::kF32) {
    std::memcpy(to, from, count * sizeof(float));
    return;
  }
  for (int64_t i = 0; i < count; ++i) to[i] = LoadElement(from, dtype, i);
}

inline void ConvertRun(const std::byte* from, DType dtype, int64_t count, uint16_t* to) {
  if (dtype == DType::kBF16) {
    std::memcpy(to, from, count * sizeof(uint16_t));
    return;
  }
  for (int64_t i = 0; i < count; ++i) to[i] = FloatToBf16(LoadElement(from, dtype, i));
}

/// True when all of values[0 .. count) are finite.
template <typename T>
bool AllFinite(const T* values, int64_t count) {
  bool finite = true;
  for (int64_t i = 0; i < count; ++i) finite &= IsFinite(values[i]);
  return finite;
}

}  // namespace lockstep::kernels::cpu

#endif  // LOCKSTEP_KERNELS_CPU_CONVERT_H_
