// Seeded weights without a file, several GB/s per thread: one 64-bit hash gives four elements, each
// 12 bits of it through a table of evenly spaced values, so that only exactly rounded arithmetic is
// used and every machine makes the same model.
#include <algorithm>
#include <array>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "model/weight_source.h"

namespace lockstep::model {
namespace {

constexpr int kIndexBits = 12;
constexpr int kLevels = 1 << kIndexBits;
constexpr int kPerHash = 4;
// Uniform on (-w, w) has the standard deviation w / sqrt(3); this w gives 0.02.
constexpr float kHalfWidth = 0.034641016f;

using Levels = std::array<uint16_t, kLevels>;

constexpr Levels MakeLevels() {
  Levels levels{};
  for (int i = 0; i < kLevels; ++i) {
    float centred = static_cast<float>(2 * i + 1 - kLevels) / kLevels;
    levels[i] = FloatToBf16(centred * kHalfWidth);
  }
  return levels;
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

constexpr uint64_t kGolden = 0x9e3779b97f4a7c15u;

uint64_t TensorKey(uint64_t seed, std::string_view name) {
  uint64_t key = Mix(seed + kGolden);
  for (unsigned char c : name) key = Mix((key ^ c) + kGolden);
  return key;
}

/// Elements [begin, begin + count) of a row; element c takes bits of hash c / 4.
void FillRow(const Levels& levels, uint64_t row_key, int64_t begin, int64_t count, uint16_t* out) {
  int64_t end = begin + count;
  int64_t c = begin;
  auto hash = [row_key](int64_t group) {
    return Mix(row_key + static_cast<uint64_t>(group) * kGolden);
  };
  auto element = [&levels](uint64_t bits, int64_t lane) {
    return levels[(bits >> (16 * lane)) & (kLevels - 1)];
  };
  for (; c < end && c % kPerHash != 0; ++c) *out++ = element(hash(c / kPerHash), c % kPerHash);
  for (; c + kPerHash <= end; c += kPerHash) {
    uint64_t bits = hash(c / kPerHash);
    for (int lane = 0; lane < kPerHash; ++lane) *out++ = element(bits, lane);
  }
  for (; c < end; ++c) *out++ = element(hash(c / kPerHash), c % kPerHash);
}

class DummyWeights final : public WeightSource {
 public:
  explicit DummyWeights(uint64_t seed) : seed_(seed) {}

  absl::StatusOr<TensorRows> Rows(std::string_view name, WeightShape full, int64_t row_begin,
                                  int64_t rows, int64_t col_begin, int64_t cols,
                                  std::vector<std::byte>& scratch) const override {
    if (row_begin < 0 || rows < 0 || row_begin + rows > full.rows || col_begin < 0 || cols < 0 ||
        col_begin + cols > full.cols) {
      return absl::InvalidArgumentError(absl::StrCat(
          std::string(name), ": rows ", row_begin, " + ", rows, " and columns ", col_begin, " + ",
          cols, " are not within [", full.rows, ", ", full.cols, "]"));
    }
    int64_t stride = cols * static_cast<int64_t>(sizeof(uint16_t));
    scratch.resize(static_cast<size_t>(rows * stride));
    auto* out = reinterpret_cast<uint16_t*>(scratch.data());
    if (full.cols == 1) {
      std::fill_n(out, rows * cols, FloatToBf16(1.0f));
    } else {
      static constexpr Levels kTable = MakeLevels();
      uint64_t key = TensorKey(seed_, name);
      for (int64_t r = 0; r < rows; ++r) {
        uint64_t row_key = Mix(key + static_cast<uint64_t>(row_begin + r) * kGolden);
        FillRow(kTable, row_key, col_begin, cols, out + r * cols);
      }
    }
    return TensorRows{scratch.data(), rows, cols, stride, DType::kBF16};
  }

 private:
  const uint64_t seed_;
};

}  // namespace

std::unique_ptr<WeightSource> MakeDummyWeights(uint64_t seed) {
  return std::make_unique<DummyWeights>(seed);
}

}  // namespace lockstep::model
