// Where a rank's weights come from: safetensors files by mmap, or seeded random numbers
// (--load-format=dummy). A rank asks only for the slice that it holds.
#ifndef LOCKSTEP_MODEL_WEIGHT_SOURCE_H_
#define LOCKSTEP_MODEL_WEIGHT_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/dtype.h"
#include "model/decoder_spec.h"

namespace lockstep::model {

/// A rectangle of a tensor: [rows, cols] of `dtype`, row r at data + r * stride_bytes, not
/// necessarily aligned. Points into the mapped file or into the caller's scratch.
struct TensorRows {
  const std::byte* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride_bytes = 0;
  DType dtype = DType::kF32;
};

/// Thread-safe for concurrent Rows calls with different scratch.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  /// Rows [row_begin, row_begin + rows) and columns [col_begin, col_begin + cols) of tensor `name`,
  /// whose full shape must be [full.rows, full.cols] (a 1-D tensor counts as [rows, 1]). The result
  /// lives as long as this source and `scratch` do and `scratch` is not reused. NotFound for a
  /// missing tensor (with near names), InvalidArgument for another shape or dtype.
  virtual absl::StatusOr<TensorRows> Rows(std::string_view name, WeightShape full,
                                          int64_t row_begin, int64_t rows, int64_t col_begin,
                                          int64_t cols, std::vector<std::byte>& scratch) const = 0;
};

/// Opens model.safetensors or the shards of model.safetensors.index.json in `directory` and checks
/// every header against its file: lengths, offsets without overlap or gap, dtypes, shapes.
/// DataLoss / InvalidArgument with file and tensor for a truncated or lying file; Unimplemented
/// for pickled (.bin), GGUF and other formats, by name.
absl::StatusOr<std::unique_ptr<WeightSource>> OpenSafetensors(
    const std::filesystem::path& directory);

/// Seeded pseudo-random bf16 weights of standard deviation 0.02 (norms 1), a function of (seed,
/// tensor name, row, column) only, so that every TP and PP sees the same model.
std::unique_ptr<WeightSource> MakeDummyWeights(uint64_t seed);

}  // namespace lockstep::model

#endif  // LOCKSTEP_MODEL_WEIGHT_SOURCE_H_
