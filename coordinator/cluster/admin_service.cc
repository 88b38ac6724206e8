// One unary method: the cluster's view, and the engines' beside it.
#include "coordinator/cluster/admin_service.h"

#include <utility>

namespace lockstep::coordinator {
namespace {

void FillUsage(const EngineStats& stats, v1::ReplicaStatus& status) {
  status.set_kv_blocks_used(static_cast<uint32_t>(stats.kv_blocks_used));
  status.set_kv_blocks_cached(static_cast<uint32_t>(stats.kv_blocks_cached));
  status.set_running_requests(static_cast<uint32_t>(stats.running_requests));
  status.set_waiting_requests(static_cast<uint32_t>(stats.waiting_requests));
  status.set_finished_requests(static_cast<uint64_t>(stats.finished_requests));
  status.set_generated_tokens(static_cast<uint64_t>(stats.generated_tokens));
  status.set_preemptions(static_cast<uint64_t>(stats.preemptions));
  status.set_prompt_tokens(static_cast<uint64_t>(stats.prompt_tokens));
  status.set_cached_tokens(static_cast<uint64_t>(stats.cached_tokens));
}

void AddUsage(const v1::ReplicaStatus& status, v1::GetTopologyResponse& topology) {
  topology.set_running_requests(topology.running_requests() + status.running_requests());
  topology.set_waiting_requests(topology.waiting_requests() + status.waiting_requests());
  topology.set_kv_blocks_used(topology.kv_blocks_used() + status.kv_blocks_used());
}

}  // namespace

AdminService::AdminService(const Cluster* cluster, UsageSource usage)
    : cluster_(cluster), usage_(std::move(usage)) {}

grpc::ServerUnaryReactor* AdminService::GetTopology(grpc::CallbackServerContext* context,
                                                    const v1::GetTopologyRequest* /*request*/,
                                                    v1::GetTopologyResponse* response) {
  *response = cluster_->Topology();
  const std::vector<EngineStats> usage = usage_();
  for (v1::ReplicaStatus& status : *response->mutable_replicas()) {
    FillUsage(usage[status.replica()], status);
    AddUsage(status, *response);
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace lockstep::coordinator
