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

}  // namespace lockstep::kernels::cpu

#endif  // LOCKSTEP_KERNELS_CPU_PACK_H_
