// ClusterService over gRPC's callback API: the workers' streams in front of the cluster.
#ifndef LOCKSTEP_COORDINATOR_CLUSTER_CLUSTER_SERVICE_H_
#define LOCKSTEP_COORDINATOR_CLUSTER_CLUSTER_SERVICE_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include "coordinator/cluster/cluster.h"
#include "proto/lockstep/v1/cluster.grpc.pb.h"

namespace lockstep::coordinator {

/// Thread-safe. Execute is raw, so that a batch is serialised once for all ranks.
class ClusterService final
    : public v1::ClusterService::WithCallbackMethod_Join<
          v1::ClusterService::WithRawCallbackMethod_Execute<v1::ClusterService::Service>> {
 public:
  /// `cluster` must outlive the server that this is registered with.
  explicit ClusterService(Cluster* cluster) : cluster_(cluster) {}

  grpc::ServerBidiReactor<v1::JoinRequest, v1::JoinResponse>* Join(
      grpc::CallbackServerContext* context) override;
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Execute(
      grpc::CallbackServerContext* context) override;

 private:
  Cluster* const cluster_;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CLUSTER_CLUSTER_SERVICE_H_
