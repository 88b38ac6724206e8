// One unary method.
#include "coordinator/cluster/admin_service.h"

#include <utility>

namespace lockstep::coordinator {

AdminService::AdminService(const Cluster* cluster, std::function<EngineUsage()> usage)
    : cluster_(cluster), usage_(std::move(usage)) {}

grpc::ServerUnaryReactor* AdminService::GetTopology(grpc::CallbackServerContext* context,
                                                    const v1::GetTopologyRequest* /*request*/,
                                                    v1::GetTopologyResponse* response) {
  *response = cluster_->Topology();
  EngineUsage usage = usage_();
  response->set_running_requests(static_cast<uint32_t>(usage.running_requests));
  response->set_waiting_requests(static_cast<uint32_t>(usage.waiting_requests));
  response->set_kv_blocks_used(static_cast<uint32_t>(usage.kv_blocks_used));
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace lockstep::coordinator
