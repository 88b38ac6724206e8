// How many bytes a rank's part of a model takes: weights, keys and values, activations.
#ifndef LOCKSTEP_MODEL_SHARD_MEMORY_H_
#define LOCKSTEP_MODEL_SHARD_MEMORY_H_

#include <cstdint>

#include "base/dtype.h"
#include "model/decoder_spec.h"
#include "model/rank_shard.h"

namespace lockstep::model {

/// Rows of logits that the last stage holds at a time, [kMaxLogitRows, vocabulary slice] fp32 and
/// their hidden states; more rows are done in turns.
inline constexpr int64_t kMaxLogitRows = 64;

/// Bytes of the weights that the shard keeps in memory, norms in fp32, matrices in `dtype`, a tied
/// head counted once.
int64_t WeightBytes(const DecoderSpec& spec, const RankShard& shard, DType dtype);

/// Bytes of keys and values that one token takes on this shard, all its layers together.
int64_t KvBytesPerToken(const DecoderSpec& spec, const RankShard& shard, DType dtype);

/// Upper bound of the activation memory for steps of `batch_tokens` rows, in bytes. All fp32, per
/// row: four vectors of the hidden size (residual, normed, summed, this rank's part of the sum),
/// query and attention output, key and value, cosines and sines, three of the FFN slice; on the
/// last stage also min(batch_tokens, kMaxLogitRows) rows of logits and hidden states.
int64_t ActivationBytes(const DecoderSpec& spec, const RankShard& shard, int64_t batch_tokens);

}  // namespace lockstep::model

#endif  // LOCKSTEP_MODEL_SHARD_MEMORY_H_
