// AdminService: how the cluster stands, for coordinatorctl.
#ifndef LOCKSTEP_COORDINATOR_CLUSTER_ADMIN_SERVICE_H_
#define LOCKSTEP_COORDINATOR_CLUSTER_ADMIN_SERVICE_H_

#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <functional>

#include "coordinator/cluster/cluster.h"
#include "proto/lockstep/v1/admin.grpc.pb.h"

namespace lockstep::coordinator {

/// What the engine adds to the topology.
struct EngineUsage {
  int64_t running_requests = 0;
  int64_t waiting_requests = 0;
  int64_t kv_blocks_used = 0;
};

/// Thread-safe.
class AdminService final : public v1::AdminService::CallbackService {
 public:
  /// `cluster` must outlive this; `usage` is called for every request, without locks.
  AdminService(const Cluster* cluster, std::function<EngineUsage()> usage);

  grpc::ServerUnaryReactor* GetTopology(grpc::CallbackServerContext* context,
                                        const v1::GetTopologyRequest* request,
                                        v1::GetTopologyResponse* response) override;

 private:
  const Cluster* const cluster_;
  const std::function<EngineUsage()> usage_;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CLUSTER_ADMIN_SERVICE_H_
