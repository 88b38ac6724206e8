// Rules first, then memory, then who holds what.
#include "model/parallel_plan.h"

#include <algorithm>

#include "base/status_macros.h"

namespace lockstep::model {
namespace {

int NodeOf(const PlanRequest& request, int tp_rank, int pp_stage) {
  int devices = request.devices_per_node;
  if (devices == 0) return 0;
  if (request.tp_size > devices) return (pp_stage * request.tp_size + tp_rank) / devices;
  int groups_per_node = devices / request.tp_size;
  return pp_stage / groups_per_node;
}

RankPlan PlanRank(const DecoderSpec& spec, const PlanRequest& request, int64_t kv_blocks,
                  int rank) {
  RankPlan plan;
  int tp_rank = rank % request.tp_size;
  int pp_stage = rank / request.tp_size;
  plan.rank = rank;
  plan.node = NodeOf(request, tp_rank, pp_stage);
  plan.shard = MakeShard(spec, request.tp_size, request.pp_size, tp_rank, pp_stage);
  plan.weight_bytes = WeightBytes(spec, plan.shard, request.dtype);
  plan.kv_bytes_per_token = KvBytesPerToken(spec, plan.shard, request.dtype);
  plan.kv_blocks = kv_blocks;
  plan.kv_bytes = kv_blocks * KvBytesPerBlock(spec, plan.shard, request.dtype);
  plan.activation_bytes = ActivationBytes(spec, plan.shard, request.batch_tokens);
  return plan;
}

}  // namespace

absl::StatusOr<ParallelPlan> MakeParallelPlan(const DecoderSpec& spec, const PlanRequest& request) {
  LOCKSTEP_RETURN_IF_ERROR(CheckPlanRules(spec, request));
  ParallelPlan plan;
  plan.request = request;
  plan.context_tokens = ResolvedContext(spec, request);
  plan.blocks_wanted = BlocksWanted(spec, request);
  LOCKSTEP_ASSIGN_OR_RETURN(plan.kv_blocks, PlanBlocks(spec, request));
  for (int rank = 0; rank < request.tp_size * request.pp_size; ++rank) {
    plan.ranks.push_back(PlanRank(spec, request, plan.kv_blocks, rank));
    plan.num_nodes = std::max(plan.num_nodes, plan.ranks.back().node + 1);
  }
  return plan;
}

}  // namespace lockstep::model
