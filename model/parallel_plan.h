// Which rank holds what: legality of TP x PP for a model, and the memory arithmetic. Pure functions
// of config.json and numbers, used by `coordinatorctl plan` before anything is loaded and by the
// coordinator before it assigns any rank.
#ifndef LOCKSTEP_MODEL_PARALLEL_PLAN_H_
#define LOCKSTEP_MODEL_PARALLEL_PLAN_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "model/decoder_spec.h"
#include "model/plan_memory.h"   // IWYU pragma: export
#include "model/plan_request.h"  // IWYU pragma: export
#include "model/plan_rules.h"    // IWYU pragma: export
#include "model/rank_shard.h"    // IWYU pragma: export
#include "model/shard_memory.h"  // IWYU pragma: export

namespace lockstep::model {

struct RankPlan {
  int rank = 0;  // pp_stage * tp_size + tp_rank
  int node = 0;
  RankShard shard;
  int64_t weight_bytes = 0;
  int64_t kv_bytes_per_token = 0;
  int64_t kv_blocks = 0;  // of kBlockTokens tokens: what memory allows, or what was asked for
  int64_t kv_bytes = 0;
  int64_t activation_bytes = 0;
  int64_t total_bytes() const { return weight_bytes + kv_bytes + activation_bytes; }
};

struct ParallelPlan {
  PlanRequest request;
  int64_t context_tokens = 0;  // resolved
  int64_t blocks_wanted = 0;   // by `concurrency` sequences of that context
  int64_t kv_blocks = 0;       // of the pool, the same on every rank; at least those wanted
  int num_nodes = 1;
  std::vector<RankPlan> ranks;  // by rank
};

/// Divides the model, or refuses with FailedPrecondition: the message names the rule, the numbers
/// and the legal sizes ("TP 3 does not divide the 8 attention heads; legal TP sizes: 1, 2, 4, 8").
/// InvalidArgument for numbers out of range. Where the devices of a node are known, as many whole
/// TP groups are placed on each as fit (a larger group takes whole nodes), so that no group
/// straddles a border that it need not cross.
absl::StatusOr<ParallelPlan> MakeParallelPlan(const DecoderSpec& spec, const PlanRequest& request);

}  // namespace lockstep::model

#endif  // LOCKSTEP_MODEL_PARALLEL_PLAN_H_
