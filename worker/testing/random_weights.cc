// A hash per weight.
#include "worker/testing/random_weights.h"

#include <cmath>
#include <cstring>
#include <string>

#include "worker/hash.h"

namespace lockstep::worker {
namespace {

class RandomWeights final : public model::WeightSource {
 public:
  explicit RandomWeights(uint64_t seed) : seed_(seed) {}

  absl::StatusOr<model::TensorRows> Rows(std::string_view name, model::WeightShape full,
                                         int64_t row_begin, int64_t rows, int64_t col_begin,
                                         int64_t cols,
                                         std::vector<std::byte>& scratch) const override {
    scratch.resize(rows * cols * sizeof(float));
    float* out = reinterpret_cast<float*>(scratch.data());
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t col = 0; col < cols; ++col) {
        *out++ = RandomWeight(seed_, name, row_begin + row, col_begin + col, full);
      }
    }
    return model::TensorRows{scratch.data(), rows, cols, cols * static_cast<int64_t>(sizeof(float)),
                             DType::kF32};
  }

 private:
  const uint64_t seed_;
};

}  // namespace

float RandomWeight(uint64_t seed, std::string_view name, int64_t row, int64_t col,
                   const model::WeightShape& shape) {
  uint64_t hash = Mix64(seed);
  for (char c : name) hash = Combine(hash, static_cast<unsigned char>(c));
  hash = Combine(Combine(hash, row), col);
  double centred = static_cast<double>(hash >> 11) * 0x1p-53 - 0.5;  // standard deviation 0.29
  if (shape.cols == 1) return static_cast<float>(1 + centred);
  bool embedding = name.find("embed") != std::string_view::npos;
  double scale = embedding ? 3.5 : 5.2 / std::sqrt(static_cast<double>(shape.cols));
  return static_cast<float>(centred * scale);
}

std::unique_ptr<model::WeightSource> MakeRandomWeights(uint64_t seed) {
  return std::make_unique<RandomWeights>(seed);
}

}  // namespace lockstep::worker
