// Memory arithmetic; the bounds of config.cc keep every product here within 64 bits.
#include "model/shard_memory.h"

#include <algorithm>

namespace lockstep::model {
namespace {

constexpr int64_t kF32Bytes = 4;

int64_t LayerMatrixElements(const DecoderSpec& spec, const RankShard& shard) {
  int64_t query = shard.heads.size() * spec.attention.head_dim;
  int64_t key_value = shard.kv_heads.size() * spec.attention.head_dim;
  return spec.hidden_size * (2 * query + 2 * key_value + 3 * shard.ffn.size());
}

}  // namespace

int64_t WeightBytes(const DecoderSpec& spec, const RankShard& shard, DType dtype) {
  int64_t norms = 2 * shard.layers.size() + (shard.has_head ? 1 : 0);
  int64_t tables = (shard.has_embedding ? 1 : 0) + (shard.has_head ? 1 : 0);
  if (spec.tie_embeddings) tables = std::min<int64_t>(tables, 1);
  int64_t elements = shard.layers.size() * LayerMatrixElements(spec, shard) +
                     tables * shard.vocab.size() * spec.hidden_size;
  return elements * static_cast<int64_t>(SizeOf(dtype)) + norms * spec.hidden_size * kF32Bytes;
}

int64_t KvBytesPerToken(const DecoderSpec& spec, const RankShard& shard, DType dtype) {
  return 2 * shard.layers.size() * shard.kv_heads.size() * spec.attention.head_dim *
         static_cast<int64_t>(SizeOf(dtype));
}

int64_t ActivationBytes(const DecoderSpec& spec, const RankShard& shard, int64_t batch_tokens) {
  int64_t attention = 2 * (shard.heads.size() + shard.kv_heads.size()) * spec.attention.head_dim;
  int64_t per_row =
      4 * spec.hidden_size + attention + spec.attention.head_dim + 3 * shard.ffn.size();
  int64_t logit_rows = shard.has_head ? std::min(batch_tokens, kMaxLogitRows) : 0;
  int64_t logits = logit_rows * (shard.vocab.size() + spec.hidden_size);
  return kF32Bytes * (batch_tokens * per_row + logits);
}

}  // namespace lockstep::model
