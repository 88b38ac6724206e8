// The product of oneDNN: the fastest where the processor multiplies bf16 itself.
#ifndef LOCKSTEP_KERNELS_CPU_ONEDNN_PRODUCT_H_
#define LOCKSTEP_KERNELS_CPU_ONEDNN_PRODUCT_H_

#include <memory>

#include "absl/status/statusor.h"
#include "base/dtype.h"
#include "kernels/product.h"

namespace lockstep::kernels::cpu {

/// PackedMatrix::Create for ProductKind::kOneDnn. The shape and dtype have been checked. With bf16
/// weights the activations are rounded to bf16 too. INTERNAL when oneDNN has no such product here.
absl::StatusOr<std::unique_ptr<PackedMatrix>> CreateOneDnnMatrix(int64_t out_features,
                                                                 int64_t in_features,
                                                                 DType storage);

}  // namespace lockstep::kernels::cpu

#endif  // LOCKSTEP_KERNELS_CPU_ONEDNN_PRODUCT_H_
