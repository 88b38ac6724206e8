// Division of a model over a TP x PP group.
#include "model/rank_shard.h"

#include <algorithm>

namespace lockstep::model {
namespace {

/// Slice `index` of `count` of [0, total): balanced, and equal where count divides total.
Range Balanced(int64_t total, int index, int count) {
  return {total * index / count, total * (index + 1) / count};
}

/// Slice `index` of `count`, all of ceil(total / count) but for the last ones.
Range CeilDivided(int64_t total, int index, int count) {
  int64_t size = (total + count - 1) / count;
  return {std::min(total, size * index), std::min(total, size * (index + 1))};
}

/// The KV heads that the query heads of `tp_rank` attend to.
Range KvHeads(int64_t kv_heads, int tp_rank, int tp_size) {
  if (tp_size <= kv_heads) return Balanced(kv_heads, tp_rank, tp_size);
  int64_t head = kv_heads * tp_rank / tp_size;
  return {head, head + 1};
}

}  // namespace

RankShard MakeShard(const DecoderSpec& spec, int tp_size, int pp_size, int tp_rank, int pp_stage) {
  RankShard shard;
  shard.tp_rank = tp_rank;
  shard.tp_size = tp_size;
  shard.pp_stage = pp_stage;
  shard.pp_size = pp_size;
  shard.layers = Balanced(spec.num_layers, pp_stage, pp_size);
  shard.heads = Balanced(spec.attention.num_heads, tp_rank, tp_size);
  shard.kv_heads = KvHeads(spec.attention.kv_heads, tp_rank, tp_size);
  shard.ffn = Balanced(spec.mlp.intermediate_size, tp_rank, tp_size);
  shard.vocab = CeilDivided(spec.vocab_size, tp_rank, tp_size);
  shard.has_embedding = pp_stage == 0;
  shard.has_head = pp_stage == pp_size - 1;
  return shard;
}

}  // namespace lockstep::model
