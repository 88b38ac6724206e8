// The limits of this machine that figures are held against: how fast memory can be read, and how
// fast a product runs. Both measure one pass at a time, so that a caller can interleave a probe
// with the thing probed: the machine's speed drifts, and only neighbours compare.
#ifndef LOCKSTEP_KERNELS_PROBE_H_
#define LOCKSTEP_KERNELS_PROBE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/dtype.h"
#include "kernels/memory.h"
#include "kernels/product.h"
#include "kernels/thread_pool.h"

namespace lockstep::kernels {

/// Reads memory that no cache holds, in the way that is fastest here: several numbers of parallel
/// streams, with and without software prefetch, are tried once. For one thread at a time.
class ReadProbe {
 public:
  /// Maps `bytes` (several times the last-level cache) on huge pages and picks the quickest way in
  /// about a second. ResourceExhausted without memory.
  static absl::StatusOr<std::unique_ptr<ReadProbe>> Create(int64_t bytes, ThreadPool& pool);

  /// Reads the next `bytes` (rounded down to whole slices, at most the whole buffer) with every
  /// member of the pool; returns bytes per second.
  double Measure(int64_t bytes, ThreadPool& pool);

  /// The way that was chosen, as in "16 streams, no prefetch".
  std::string way() const;

 private:
  ReadProbe(HugeBuffer buffer, int64_t slice_bytes)
      : buffer_(std::move(buffer)), slice_bytes_(slice_bytes) {}
  double MeasureWay(size_t way, int64_t bytes, ThreadPool& pool);

  HugeBuffer buffer_;
  int64_t slice_bytes_;
  int64_t next_ = 0;
  size_t way_ = 0;
};

/// The median of some passes of a ReadProbe of `bytes`, in bytes per second.
absl::StatusOr<double> ReadBandwidth(int64_t bytes, ThreadPool& pool);

/// One product's shape and implementation, run again and again over as many equal weights as fill
/// `footprint_bytes`, so that each run finds its weight in memory and not in a cache.
class ProductProbe {
 public:
  static absl::StatusOr<std::unique_ptr<ProductProbe>> Create(ProductKind kind, DType storage,
                                                              int64_t rows, int64_t out_features,
                                                              int64_t in_features,
                                                              int64_t footprint_bytes,
                                                              ThreadPool& pool);

  /// Runs one product; returns its seconds.
  double Measure(ThreadPool& pool);

  /// Bytes of weights that one product reads.
  int64_t weight_bytes() const;
  /// Floating-point operations of one product.
  double operations() const;

 private:
  ProductProbe() = default;

  int64_t rows_ = 0;
  std::vector<std::unique_ptr<PackedMatrix>> weights_;
  size_t next_ = 0;
  HugeBuffer x_;
  HugeBuffer y_;
};

/// The best of `runs` products of that shape, in floating-point operations per second.
absl::StatusOr<double> ProductRate(ProductKind kind, DType storage, int64_t rows,
                                   int64_t out_features, int64_t in_features, int runs,
                                   ThreadPool& pool);

}  // namespace lockstep::kernels

#endif  // LOCKSTEP_KERNELS_PROBE_H_
