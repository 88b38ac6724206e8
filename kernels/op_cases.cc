// The cases, and the seeded data that they are filled with.
#include "kernels/op_cases.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <numbers>

namespace lockstep::kernels {
namespace {

constexpr DType kF32 = DType::kF32;
constexpr DType kBF16 = DType::kBF16;
constexpr DType kF16 = DType::kF16;

// SplitMix64 (Steele, Lea & Flood 2014), so that the data does not hang on a standard library.
uint64_t NextBits(uint64_t& state) {
  uint64_t z = (state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

double NextUniform(uint64_t& state) {
  return (static_cast<double>(NextBits(state) >> 11) + 0.5) * 0x1p-53;
}

// Rounds to nearest even; the test data stays far from the limits of fp16.
uint16_t FloatToF16(float value) {
  float magnitude = std::fabs(value);
  uint16_t sign = std::signbit(value) ? 0x8000u : 0;
  if (magnitude < 0x1p-14f) {
    return sign | static_cast<uint16_t>(std::nearbyint(magnitude * 0x1p24f));
  }
  uint32_t bits = std::bit_cast<uint32_t>(magnitude);
  bits += 0xfffu + ((bits >> 13) & 1u);
  return sign | static_cast<uint16_t>((bits - (112u << 23)) >> 13);
}

}  // namespace

std::span<const ProductCase> ProductCases() {
  static const std::vector<ProductCase> cases = {
      {1, 1, 1, kF32, kF32, 1},         {1, 31, 7, kBF16, kBF16, 2},
      {2, 33, 15, kF16, kBF16, 3},      {3, 32, 16, kF32, kBF16, 4},
      {4, 64, 63, kBF16, kF32, 5},      {5, 65, 129, kF16, kF32, 6},
      {6, 96, 256, kBF16, kBF16, 7},    {7, 100, 257, kF32, kF32, 8},
      {8, 128, 255, kBF16, kBF16, 9},   {13, 160, 300, kBF16, kBF16, 10},
      {14, 200, 512, kF32, kF32, 11},   {15, 320, 511, kBF16, kBF16, 12},
      {29, 72, 513, kBF16, kBF16, 13},  {43, 36, 1024, kF32, kF32, 14},
      {57, 289, 700, kBF16, kBF16, 15}, {120, 97, 520, kF32, kF32, 16},
      {513, 48, 96, kBF16, kBF16, 17},  {1, 3072, 2048, kBF16, kBF16, 18},
      {8, 512, 2048, kF32, kF32, 19},   {600, 33, 40, kF32, kF32, 20},
  };
  return cases;
}

std::span<const RowwiseCase> RowwiseCases() {
  static const std::vector<RowwiseCase> cases = {
      {1, 1, 1},   {1, 7, 2},    {3, 16, 3},    {2, 17, 4},   {5, 100, 5},
      {64, 64, 6}, {9, 2048, 7}, {40, 1023, 8}, {1, 8192, 9},
  };
  return cases;
}

std::span<const RotaryCase> RotaryCases() {
  static const std::vector<RotaryCase> cases = {
      {1, 1, 2, 0, 1},      {3, 2, 16, 5, 2},        {7, 4, 64, 100, 3},
      {70, 3, 80, 4000, 4}, {16, 8, 128, 131000, 5}, {2, 1, 256, 8191, 6},
  };
  return cases;
}

std::span<const AttentionCase> AttentionCases() {
  static const std::vector<AttentionCase> cases = {
      {1, 1, 16, kF32, {{0, 1}}, 1},
      {2, 1, 16, kBF16, {{0, 5}}, 2},
      {4, 2, 32, kF32, {{15, 1}, {16, 1}, {63, 1}, {64, 1}, {65, 1}}, 3},
      {8, 1, 64, kBF16, {{0, 70}}, 4},
      {6, 2, 48, kF32, {{33, 17}, {0, 3}, {200, 1}}, 5},
      {5, 1, 80, kBF16, {{100, 30}}, 6},
      {7, 7, 128, kF32, {{0, 40}, {127, 2}}, 7},
      {12, 2, 96, kBF16, {{0, 129}}, 8},
      {14, 2, 256, kF32, {{10, 21}}, 9},
      {8, 4, 20, kF32, {{0, 33}}, 10},
      {32, 8, 64, kBF16, {{0, 100}, {1500, 1}, {2100, 1}}, 11},
      {8, 8, 64, kF32, {{1023, 2}, {1024, 1}, {5000, 1}}, 12},
  };
  return cases;
}

std::vector<float> RandomNormal(int64_t count, uint32_t seed, float deviation) {
  uint64_t state = seed;
  std::vector<float> values(count);
  // Box & Muller 1958.
  for (float& value : values) {
    double radius = std::sqrt(-2 * std::log(NextUniform(state)));
    value = static_cast<float>(deviation * radius *
                               std::cos(2 * std::numbers::pi * NextUniform(state)));
  }
  return values;
}

std::vector<std::byte> Encode(DType dtype, std::span<const float> values) {
  std::vector<std::byte> bytes(values.size() * SizeOf(dtype));
  if (dtype == kF32) {
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
  }
  for (size_t i = 0; i < values.size(); ++i) {
    uint16_t bits = dtype == kBF16 ? FloatToBf16(values[i]) : FloatToF16(values[i]);
    std::memcpy(bytes.data() + 2 * i, &bits, sizeof(bits));
  }
  return bytes;
}

std::vector<float> RoundedTo(DType dtype, std::span<const float> values) {
  std::vector<float> rounded(values.begin(), values.end());
  if (dtype == kF32) return rounded;
  for (float& value : rounded) {
    value = dtype == kBF16 ? Bf16ToFloat(FloatToBf16(value)) : F16ToFloat(FloatToF16(value));
  }
  return rounded;
}

}  // namespace lockstep::kernels
