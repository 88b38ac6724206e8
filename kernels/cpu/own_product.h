// Our own product: row-invariant by construction on every processor (see README.md).
#ifndef LOCKSTEP_KERNELS_CPU_OWN_PRODUCT_H_
#define LOCKSTEP_KERNELS_CPU_OWN_PRODUCT_H_

#include <memory>

#include "absl/status/statusor.h"
#include "base/dtype.h"
#include "kernels/product.h"

namespace lockstep::kernels::cpu {

/// PackedMatrix::Create for ProductKind::kOwn. The shape and dtype have been checked.
absl::StatusOr<std::unique_ptr<PackedMatrix>> CreateOwnMatrix(int64_t out_features,
                                                              int64_t in_features, DType storage);

}  // namespace lockstep::kernels::cpu

#endif  // LOCKSTEP_KERNELS_CPU_OWN_PRODUCT_H_
