// Which rank holds what: legality of TP x PP for a model, and the memory arithmetic. Pure functions
// of config.json and numbers, used by `coordinatorctl plan` before anything is loaded and by the
// coordinator before it assigns any rank.
#ifndef LOCKSTEP_MODEL_PARALLEL_PLAN_H_
#define LOCKSTEP_MODEL_PARALLEL_PLAN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/dtype.h"
#include "model/decoder_spec.h"
#include "model/rank_shard.h"    // IWYU pragma: export
#include "model/shard_memory.h"  // IWYU pragma: export

namespace lockstep::model {

struct PlanRequest {
  int tp_size = 1;
  int pp_size = 1;
  int devices_per_node = 0;  // 0: not known, one node is assumed large enough
  bool allow_cross_node_tp = false;
  std::optional<int64_t> device_memory_bytes;  // per device; nullopt: not checked
  double memory_fraction = 0.9;                // of device memory that Lockstep may use
  int64_t context_tokens = 0;                  // per sequence; 0: the model's max_position
  int concurrency = 1;                         // sequences of that length that should fit at once
  int64_t batch_tokens = 2048;                 // rows of the largest step, for the activations
  DType dtype = DType::kBF16;
};

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
  int64_t context_tokens = 0;   // resolved
  std::vector<RankPlan> ranks;  // by rank
};

/// Divides the model, or refuses with FailedPrecondition: the message names the rule, the numbers
/// and the legal sizes ("TP 3 does not divide the 8 attention heads; legal: 1, 2, 4, 8").
absl::StatusOr<ParallelPlan> MakeParallelPlan(const DecoderSpec& spec, const PlanRequest& request);

/// The TP (PP) sizes that are legal for the model on their own, ascending.
std::vector<int> LegalTpSizes(const DecoderSpec& spec);
std::vector<int> LegalPpSizes(const DecoderSpec& spec);

}  // namespace lockstep::model

#endif  // LOCKSTEP_MODEL_PARALLEL_PLAN_H_
