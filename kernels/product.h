// The matrix product y = x Wᵀ with W packed once at load: every weight of the decoder goes
// through it, from one row (decode, bound by memory) to hundreds (prefill, bound by arithmetic).
#ifndef LOCKSTEP_KERNELS_PRODUCT_H_
#define LOCKSTEP_KERNELS_PRODUCT_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/dtype.h"
#include "kernels/tensor.h"
#include "kernels/thread_pool.h"

namespace lockstep::kernels {

/// Rows of a weight as they lie in a file: [rows, cols] of `dtype`, row r at data + r *
/// stride_bytes, not necessarily aligned to the element. Does not own `data`.
struct WeightRows {
  const std::byte* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride_bytes = 0;
  DType dtype = DType::kF32;
};

/// Which implementation multiplies: the workers use our own on every machine. oneDNN 2.6.3 is there
/// to be compared with: on the slices of several threads it falls back to its reference
/// implementation, and with dense slices its fp32 product of 8 rows by 512 x 2048 came out wrong in
/// a quarter of them.
enum class ProductKind { kOwn, kOneDnn };

/// A weight W [out_features, in_features], in kBF16 or kF32, in the layout that the product wants.
/// Owns its memory (huge pages where the system grants them). Create, pack every row once, then
/// use; packing different rows from several threads is safe, products may run concurrently.
class PackedMatrix {
 public:
  static absl::StatusOr<std::unique_ptr<PackedMatrix>> Create(int64_t out_features,
                                                              int64_t in_features, DType storage,
                                                              ProductKind kind = ProductKind::kOwn);
  virtual ~PackedMatrix() = default;

  int64_t out_features() const { return out_features_; }
  int64_t in_features() const { return in_features_; }
  DType storage() const { return storage_; }
  /// Memory held, in bytes.
  virtual int64_t bytes() const = 0;

  /// Puts `rows` at output features [out_begin, out_begin + rows.rows), converting to storage().
  /// InvalidArgument when the shape does not fit; DataLoss when a value is not finite, naming its
  /// row and column within `rows`.
  virtual absl::Status PackRows(int64_t out_begin, const WeightRows& rows, ThreadPool& pool) = 0;

  /// Called once after the last PackRows; no product before it.
  virtual absl::Status Finish(ThreadPool& pool) = 0;

  /// dst[0 .. in_features) = W[out_index, :] as fp32: the embedding look-up on a tied head. Only of
  /// matrices made with kOwn.
  virtual void ReadRow(int64_t out_index, float* dst) const = 0;

  /// y [rows, out_features] = x [rows, in_features] Wᵀ, accumulated in fp32. A row of y has the
  /// same bits whatever the other rows are, and however many, for every number of threads. With
  /// kOwn each element is one chain of fused multiply-adds in ascending order of the input feature.
  virtual void Product(ConstMatrix x, Matrix y, ThreadPool& pool) const = 0;

 protected:
  PackedMatrix(int64_t out_features, int64_t in_features, DType storage)
      : out_features_(out_features), in_features_(in_features), storage_(storage) {}

 private:
  int64_t out_features_;
  int64_t in_features_;
  DType storage_;
};

}  // namespace lockstep::kernels

#endif  // LOCKSTEP_KERNELS_PRODUCT_H_
