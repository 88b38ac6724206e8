// Copies the books into the message.
#include "coordinator/cluster/topology.h"

#include <algorithm>
#include <set>

#include "coordinator/engine/block_pool.h"

namespace lockstep::coordinator {
namespace {

uint64_t Microseconds(absl::Duration duration) {
  return static_cast<uint64_t>(std::max<int64_t>(absl::ToInt64Microseconds(duration), 0));
}

void FillWorker(const WorkerInfo& worker, v1::WorkerStatus& status) {
  status.set_worker_id(worker.worker_id);
  status.set_node(worker.node);
  status.set_device(worker.device);
  status.set_pid(worker.pid);
}

void FillHeartbeat(const Member& member, absl::Time now, v1::WorkerStatus& status) {
  *status.mutable_progress() = member.progress;
  status.set_heartbeat_age_us(Microseconds(now - member.heartbeat_at));
}

void FillRank(const RankState& rank, const model::RankPlan& plan, int64_t kv_blocks,
              v1::WorkerStatus& status) {
  status.set_rank(rank.assignment.rank());
  status.set_tp_rank(rank.assignment.tp_rank());
  status.set_pp_stage(rank.assignment.pp_stage());
  status.set_layer_begin(static_cast<uint32_t>(plan.shard.layers.begin));
  status.set_layer_end(static_cast<uint32_t>(plan.shard.layers.end));
  status.set_weight_bytes(rank.ready ? rank.ready->weight_bytes() : plan.weight_bytes);
  status.set_kv_bytes(rank.ready ? rank.ready->kv_bytes()
                                 : plan.kv_bytes_per_token * kBlockTokens * kv_blocks);
  if (rank.ready) status.set_load_us(rank.ready->load_us());
  status.set_loaded_bytes(rank.loaded_bytes);
  status.set_total_bytes(rank.total_bytes);
  *status.mutable_groups() = rank.assignment.groups();
}

void FillSteps(const RankStepTimes& times, absl::Time now, v1::WorkerStatus& status) {
  if (times.at == absl::InfinitePast()) return;
  status.set_last_step_ns(times.step_ns);
  status.set_last_wait_ns(times.wait_ns);
  status.set_last_step_age_us(Microseconds(now - times.at));
}

void FillWorkers(const Formation& formation, std::span<const RankStepTimes> step_times,
                 absl::Time now, v1::GetTopologyResponse& topology) {
  std::set<MemberId> ranked;
  if (const Epoch* epoch = formation.epoch()) {
    for (size_t rank = 0; rank < epoch->ranks().size(); ++rank) {
      const RankState& state = epoch->ranks()[rank];
      ranked.insert(state.member);
      v1::WorkerStatus& status = *topology.add_workers();
      FillWorker(state.worker, status);
      FillHeartbeat(*formation.membership().Find(state.member), now, status);
      FillRank(state, formation.config().plan.ranks[rank], epoch->limits().kv_blocks, status);
      if (rank < step_times.size()) FillSteps(step_times[rank], now, status);
    }
  }
  for (const auto& [id, member] : formation.membership().members()) {
    if (ranked.contains(id)) continue;
    v1::WorkerStatus& status = *topology.add_workers();
    FillWorker(member.info, status);
    FillHeartbeat(member, now, status);
  }
}

}  // namespace

v1::GetTopologyResponse MakeTopology(const Formation& formation,
                                     std::span<const RankStepTimes> step_times, absl::Time now) {
  const ClusterConfig& config = formation.config();
  v1::GetTopologyResponse topology;
  topology.set_state(formation.state());
  topology.set_detail(formation.detail());
  topology.set_epoch(formation.last_epoch());
  topology.set_model(config.model_name);
  topology.set_architecture(config.architecture);
  topology.set_dtype(config.model.dtype());
  topology.set_tp_size(config.plan.request.tp_size);
  topology.set_pp_size(config.plan.request.pp_size);
  topology.set_context_tokens(config.plan.context_tokens);
  if (formation.epoch()) topology.set_kv_blocks(formation.epoch()->limits().kv_blocks);
  FillWorkers(formation, step_times, now, topology);
  return topology;
}

}  // namespace lockstep::coordinator
