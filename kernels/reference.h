// Slow, obvious double-precision versions of every kernel, for tests only.
#ifndef LOCKSTEP_KERNELS_REFERENCE_H_
#define LOCKSTEP_KERNELS_REFERENCE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/tensor.h"

namespace lockstep::kernels {

/// A row-major matrix of doubles.
struct ReferenceMatrix {
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<double> values;

  ReferenceMatrix(int64_t rows_in, int64_t cols_in)
      : rows(rows_in), cols(cols_in), values(rows_in * cols_in) {}
  double& at(int64_t r, int64_t c) { return values[r * cols + c]; }
  double at(int64_t r, int64_t c) const { return values[r * cols + c]; }
};

/// x wᵀ. x: [rows, in], w: [out, in]; result [rows, out].
ReferenceMatrix ReferenceProduct(ConstMatrix x, ConstMatrix w);

/// The sum of |x| |w| for each element of the product, the scale of its rounding error.
ReferenceMatrix ReferenceProductMagnitude(ConstMatrix x, ConstMatrix w);

/// x / sqrt(mean(x²) + eps) * weight, row by row.
ReferenceMatrix ReferenceRmsNorm(const ReferenceMatrix& x, std::span<const float> weight,
                                 double eps);

/// silu(gate) * up of [gate | up].
ReferenceMatrix ReferenceSiluMul(ConstMatrix gate_up);

/// Split-half rotation of each head of x by positions[r] * inverse_frequencies[i].
ReferenceMatrix ReferenceRotateHalf(ConstMatrix x, std::span<const int32_t> positions,
                                    std::span<const double> inverse_frequencies, double scale);

/// Causal attention of one sequence: query row r stands at position tokens - q.rows + r.
/// q: [rows, heads * head_dim]; keys, values: [tokens, kv_heads * head_dim].
ReferenceMatrix ReferenceAttention(ConstMatrix q, ConstMatrix keys, ConstMatrix values,
                                   int head_dim, double scale);

}  // namespace lockstep::kernels

#endif  // LOCKSTEP_KERNELS_REFERENCE_H_
