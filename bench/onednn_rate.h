// oneDNN's own time for a matrix product, in the way that it likes best: weights in the layout that
// it asks for, all threads its own. A limit to hold Lockstep's products against.
#ifndef LOCKSTEP_BENCH_ONEDNN_RATE_H_
#define LOCKSTEP_BENCH_ONEDNN_RATE_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "base/dtype.h"

namespace lockstep::bench {

/// One product y [rows, n] fp32 = x [rows, k] W [k, n], x and W of `dtype`, run again and again
/// over as many equal W as fill a footprint, so that each run finds its W in memory and not in a
/// cache. Not thread-safe.
class OneDnnProduct {
 public:
  /// `footprint_bytes`: of all W together, at least one W. Internal when oneDNN has no such product
  /// here.
  static absl::StatusOr<std::unique_ptr<OneDnnProduct>> Create(DType dtype, int64_t rows, int64_t n,
                                                               int64_t k, int64_t footprint_bytes);
  ~OneDnnProduct();
  /// Runs it once on OpenMP's threads; returns its seconds.
  double Measure();

 private:
  struct Impl;
  explicit OneDnnProduct(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace lockstep::bench

#endif  // LOCKSTEP_BENCH_ONEDNN_RATE_H_
