// AdminService: how the cluster stands, for coordinatorctl.
#ifndef LOCKSTEP_COORDINATOR_CLUSTER_ADMIN_SERVICE_H_
#define LOCKSTEP_COORDINATOR_CLUSTER_ADMIN_SERVICE_H_

#include <grpcpp/support/server_callback.h>

#include <functional>
#include <vector>

#include "coordinator/cluster/cluster.h"
#include "coordinator/engine/engine.h"
#include "proto/lockstep/v1/admin.grpc.pb.h"

namespace lockstep::coordinator {

/// Thread-safe.
class AdminService final : public v1::AdminService::CallbackService {
 public:
  /// What the engines say of themselves, by replica.
  using UsageSource = std::function<std::vector<EngineStats>()>;

  /// `cluster` must outlive this; `usage` is called for every request, without locks.
  AdminService(const Cluster* cluster, UsageSource usage);

  grpc::ServerUnaryReactor* GetTopology(grpc::CallbackServerContext* context,
                                        const v1::GetTopologyRequest* request,
                                        v1::GetTopologyResponse* response) override;

 private:
  const Cluster* const cluster_;
  const UsageSource usage_;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CLUSTER_ADMIN_SERVICE_H_
