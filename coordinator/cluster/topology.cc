// Copies the books into the message.
#include "coordinator/cluster/topology.h"

#include <algorithm>

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
  status.set_steps(times.steps);
  status.set_total_step_ns(times.total_step_ns);
  status.set_total_wait_ns(times.total_wait_ns);
  status.set_total_gap_ns(times.total_gap_ns);
  status.set_median_gap_ns(times.median_gap_ns);
}

// The ranks of a replica, in order.
void AddRanks(const Formation& formation, int replica, std::span<const RankStepTimes> step_times,
              absl::Time now, v1::GetTopologyResponse& topology) {
  const Epoch* epoch = formation.replica(replica).epoch();
  if (epoch == nullptr) return;
  for (size_t rank = 0; rank < epoch->ranks().size(); ++rank) {
    const RankState& state = epoch->ranks()[rank];
    v1::WorkerStatus& status = *topology.add_workers();
    status.set_replica(replica);
    FillWorker(state.worker, status);
    FillHeartbeat(*formation.membership().Find(state.member), now, status);
    FillRank(state, formation.config().plan.ranks[rank], epoch->limits().kv_blocks, status);
    if (rank < step_times.size()) FillSteps(step_times[rank], now, status);
  }
}

void AddSpares(const Formation& formation, absl::Time now, v1::GetTopologyResponse& topology) {
  for (MemberId id : formation.membership().FreeIds()) {
    const Member& member = *formation.membership().Find(id);
    v1::WorkerStatus& status = *topology.add_workers();
    FillWorker(member.info, status);
    FillHeartbeat(member, now, status);
  }
}

void FillReplica(const ReplicaFormation& formation, v1::ReplicaStatus& status) {
  status.set_state(formation.state());
  status.set_detail(formation.detail());
  status.set_epoch(formation.last_epoch());
  if (formation.epoch()) status.set_kv_blocks(formation.epoch()->limits().kv_blocks);
}

}  // namespace

v1::GetTopologyResponse MakeTopology(const Formation& formation,
                                     std::span<const std::vector<RankStepTimes>> step_times,
                                     absl::Time now) {
  const ClusterConfig& config = formation.config();
  v1::GetTopologyResponse topology;
  topology.set_state(formation.state());
  topology.set_detail(formation.detail());
  topology.set_model(config.model_name);
  topology.set_architecture(config.architecture);
  topology.set_dtype(config.model.dtype());
  topology.set_tp_size(config.plan.request.tp_size);
  topology.set_pp_size(config.plan.request.pp_size);
  topology.set_context_tokens(config.plan.context_tokens);
  for (int replica = 0; replica < formation.size(); ++replica) {
    v1::ReplicaStatus& status = *topology.add_replicas();
    status.set_replica(replica);
    FillReplica(formation.replica(replica), status);
    topology.set_epoch(std::max(topology.epoch(), status.epoch()));
    topology.set_kv_blocks(topology.kv_blocks() + status.kv_blocks());
    AddRanks(formation, replica, step_times[replica], now, topology);
  }
  AddSpares(formation, now, topology);
  return topology;
}

}  // namespace lockstep::coordinator
