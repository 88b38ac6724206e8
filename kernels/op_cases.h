// The one list of cases that every device's kernels are tested with: shapes, element types and
// seeds, from one element to a real model's layers.
#ifndef LOCKSTEP_KERNELS_OP_CASES_H_
#define LOCKSTEP_KERNELS_OP_CASES_H_

#include <cstdint>
#include <span>
#include <vector>

#include "base/dtype.h"

namespace lockstep::kernels {

/// y = x Wᵀ with W [out_features, in_features] read from `file` elements and kept in `storage`.
struct ProductCase {
  int64_t rows;
  int64_t out_features;
  int64_t in_features;
  DType file;
  DType storage;
  uint32_t seed;
};

/// RmsNorm, AddRmsNorm and SiluMul of [rows, cols].
struct RowwiseCase {
  int64_t rows;
  int64_t cols;
  uint32_t seed;
};

/// RopeCosSin and RotateHalf of [rows, heads * head_dim] from first_position on.
struct RotaryCase {
  int64_t rows;
  int heads;
  int head_dim;
  int32_t first_position;
  uint32_t seed;
};

/// One sequence of an AttentionCase: `rows` new rows after `context` cached tokens.
struct SequenceCase {
  int64_t context;
  int64_t rows;
};

/// StoreKv and PagedAttention of a batch of sequences whose blocks lie scattered in the pool.
struct AttentionCase {
  int heads;
  int kv_heads;
  int head_dim;
  DType cache;
  std::vector<SequenceCase> sequences;
  uint32_t seed;
};

std::span<const ProductCase> ProductCases();
std::span<const RowwiseCase> RowwiseCases();
std::span<const RotaryCase> RotaryCases();
std::span<const AttentionCase> AttentionCases();

/// `count` normally distributed numbers, the same for the same seed on every machine.
std::vector<float> RandomNormal(int64_t count, uint32_t seed, float deviation = 1.0f);

/// Values rounded to `dtype` and back.
std::vector<float> RoundedTo(DType dtype, std::span<const float> values);

/// The bytes of `values` as elements of `dtype`.
std::vector<std::byte> Encode(DType dtype, std::span<const float> values);

}  // namespace lockstep::kernels

#endif  // LOCKSTEP_KERNELS_OP_CASES_H_
