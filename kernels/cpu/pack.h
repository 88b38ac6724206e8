// From a file's rows to the panels of our own product, in one pass over the source.
#ifndef LOCKSTEP_KERNELS_CPU_PACK_H_
#define LOCKSTEP_KERNELS_CPU_PACK_H_

#include <cstdint>

#include "absl/status/status.h"
#include "kernels/cpu/panels.h"
#include "kernels/product.h"
#include "kernels/thread_pool.h"

namespace lockstep::kernels::cpu {

/// Writes rows.rows rows as output features [out_begin, out_begin + rows.rows) of `panels`, whose
/// memory `data` is writable and was zero. The shape must fit. Distinct rows may be packed from
/// several threads at once, even of one panel. DataLoss when a value is not finite (after
/// conversion to panels.storage), naming row and column within `rows`; the panels are then in part
/// written.
absl::Status PackIntoPanels(const WeightRows& rows, int64_t out_begin, const Panels& panels,
                            std::byte* data, ThreadPool& pool);

/// OK when `rows` may become output features [out_begin, out_begin + rows.rows) of a weight of
/// out_features x in_features, else InvalidArgument with the numbers.
absl::Status CheckFits(const WeightRows& rows, int64_t out_begin, int64_t out_features,
                       int64_t in_features);

/// DataLoss that names the first value at or after first_row that is not finite as `storage`.
absl::Status NotFinite(const WeightRows& rows, DType storage, int64_t first_row);

}  // namespace lockstep::kernels::cpu

#endif  // LOCKSTEP_KERNELS_CPU_PACK_H_
