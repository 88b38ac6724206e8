// Causal attention over a paged key-value cache, for prefill chunks and single decode rows alike,
// with grouped-query heads.
#ifndef LOCKSTEP_KERNELS_ATTENTION_H_
#define LOCKSTEP_KERNELS_ATTENTION_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/dtype.h"
#include "kernels/tensor.h"
#include "kernels/thread_pool.h"

namespace lockstep::kernels {

/// Tokens in one block of the key-value cache.
inline constexpr int kBlockTokens = 16;

/// How one layer's cache is laid out. A block holds kBlockTokens tokens of every KV head of the
/// rank; the arrangement inside a block is the kernel's own (keys and values differ).
struct KvLayout {
  int kv_heads = 0;
  int head_dim = 0;
  DType dtype = DType::kF32;  // kF32 or kBF16

  /// Bytes of one block of keys; the same for values.
  int64_t block_bytes() const {
    return static_cast<int64_t>(kv_heads) * head_dim * kBlockTokens *
           static_cast<int64_t>(SizeOf(dtype));
  }
};

/// One layer's pool: block b at keys + b * layout.block_bytes(), values alike; 64-byte aligned.
/// Not owned. Blocks must have been zeroed once before their first use.
struct KvLayer {
  std::byte* keys = nullptr;
  std::byte* values = nullptr;
};

/// The rows of one sequence in a batch: rows [first_row, first_row + rows) of the step's matrices
/// stand at positions first_position, first_position + 1, ... of the sequence, whose token t lies
/// in block block_table[t / kBlockTokens] at slot t % kBlockTokens.
struct SequenceRows {
  int64_t first_row = 0;
  int64_t rows = 0;
  int64_t first_position = 0;
  std::span<const int32_t> block_table;
};

/// Writes each row's key and value into its slot, rounding to layout.dtype.
/// keys, values: [rows, kv_heads * head_dim] fp32 (keys already rotated).
void StoreKv(ConstMatrix keys, ConstMatrix values, std::span<const SequenceRows> sequences,
             const KvLayout& layout, KvLayer layer, ThreadPool& pool);

/// out[r, h] = sum_t softmax_t(scale * q[r, h] . k[t, h / group]) v[t, h / group] over the tokens t
/// at or before the row's own position (Vaswani et al. 2017; online softmax of Milakov & Gimelshein
/// 2018 over absolute blocks of tokens). group = heads / kv_heads, heads = q.cols / head_dim.
/// The cache must hold all those tokens (StoreKv of this step's rows comes before).
/// q, out: [rows, heads * head_dim] fp32. A row's bits depend on its own query and cache only.
void PagedAttention(ConstMatrix q, std::span<const SequenceRows> sequences, const KvLayout& layout,
                    KvLayer layer, float scale, Matrix out, ThreadPool& pool);

}  // namespace lockstep::kernels

#endif  // LOCKSTEP_KERNELS_ATTENTION_H_
