// Chooses the implementation of a packed matrix.
#include "kernels/product.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/onednn_product.h"
#include "kernels/cpu/own_product.h"

namespace lockstep::kernels {

absl::StatusOr<std::unique_ptr<PackedMatrix>> PackedMatrix::Create(int64_t out_features,
                                                                   int64_t in_features,
                                                                   DType storage,
                                                                   ProductKind kind) {
  if (out_features < 1 || in_features < 1) {
    return absl::InvalidArgumentError(absl::StrCat("a weight of ", out_features, " x ", in_features,
                                                   " is empty; both must be at least 1"));
  }
  if (storage == DType::kF16) {
    return absl::InvalidArgumentError(absl::StrCat("weights cannot be stored as ",
                                                   std::string(Name(storage)),
                                                   "; legal are bf16 and fp32 (--dtype)"));
  }
  if (kind == ProductKind::kOneDnn) {
    return cpu::CreateOneDnnMatrix(out_features, in_features, storage);
  }
  return cpu::CreateOwnMatrix(out_features, in_features, storage);
}

}  // namespace lockstep::kernels
