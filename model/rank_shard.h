// The part of the model that one rank of a TP x PP group holds, as ranges of layers, heads, columns
// and vocabulary. Pure arithmetic; whether a division is legal is parallel_plan.h's matter.
#ifndef LOCKSTEP_MODEL_RANK_SHARD_H_
#define LOCKSTEP_MODEL_RANK_SHARD_H_

#include <cstdint>

#include "model/decoder_spec.h"

namespace lockstep::model {

/// [begin, end).
struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

/// The part of the model that one rank of a TP x PP group holds.
struct RankShard {
  int tp_rank = 0;
  int tp_size = 1;
  int pp_stage = 0;
  int pp_size = 1;
  Range layers;  // balanced: floor(s * L / P) to floor((s + 1) * L / P) for stage s of P
  Range heads;
  Range kv_heads;              // shared with other ranks when TP exceeds the KV heads
  Range ffn;                   // columns of the MLP's intermediate size
  Range vocab;                 // rows of embedding and head; equal slices but for the last
  bool has_embedding = false;  // first stage
  bool has_head = false;       // last stage
};

/// The part of rank (pp_stage, tp_rank); the sizes must be legal.
RankShard MakeShard(const DecoderSpec& spec, int tp_size, int pp_size, int tp_rank, int pp_stage);

}  // namespace lockstep::model

#endif  // LOCKSTEP_MODEL_RANK_SHARD_H_
