// How many KV blocks a division leaves room for, and what would fit when too few.
#ifndef LOCKSTEP_MODEL_PLAN_MEMORY_H_
#define LOCKSTEP_MODEL_PLAN_MEMORY_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "model/decoder_spec.h"
#include "model/plan_request.h"
#include "model/rank_shard.h"

namespace lockstep::model {

/// Tokens in one block of the key-value cache. The planner knows no kernels: whoever uses both must
/// hold this equal to kernels::kBlockTokens (static_assert).
inline constexpr int kPlanBlockTokens = 16;

/// The context that the request means: its own, or the model's longest.
int64_t ResolvedContext(const DecoderSpec& spec, const PlanRequest& request);

/// Blocks that `concurrency` sequences of the resolved context take.
int64_t BlocksWanted(const DecoderSpec& spec, const PlanRequest& request);

/// Bytes of one block on a shard, keys and values of all its layers.
int64_t KvBytesPerBlock(const DecoderSpec& spec, const RankShard& shard, DType dtype);

/// Blocks of the pool, the same on every rank: those that the request wants where no device memory
/// is given; otherwise what the fullest rank has room for, at least those wanted, or
/// FailedPrecondition with the bytes of the rank that lacks most and with what would fit: a shorter
/// context, fewer sequences, the next larger legal TP x PP. The request must satisfy the rules.
absl::StatusOr<int64_t> PlanBlocks(const DecoderSpec& spec, const PlanRequest& request);

}  // namespace lockstep::model

#endif  // LOCKSTEP_MODEL_PLAN_MEMORY_H_
