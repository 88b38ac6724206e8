// A small legal plan, an observer that remembers, and a cluster behind a real gRPC server on a free
// port: what tests of the cluster start from.
#ifndef LOCKSTEP_COORDINATOR_CLUSTER_TESTING_SMALL_CLUSTER_H_
#define LOCKSTEP_COORDINATOR_CLUSTER_TESTING_SMALL_CLUSTER_H_

#include <grpcpp/channel.h>
#include <grpcpp/server.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "coordinator/cluster/admin_service.h"
#include "coordinator/cluster/cluster.h"
#include "coordinator/cluster/cluster_config.h"
#include "coordinator/cluster/cluster_service.h"
#include "coordinator/engine/rank_group.h"

namespace lockstep::coordinator {

/// SmallLlamaConfig() at TP `tp` and PP `pp`: context 64, at most 4 sequences, 128 rows a step.
ClusterConfig SmallClusterConfig(int tp, int pp);

/// Thread-safe; the waits end after kTestDeadline at the latest.
class RecordingObserver final : public GroupObserver {
 public:
  void OnGroupFormed(std::shared_ptr<RankGroup> group) override;
  void OnStepDone(const v1::StepResult& result) override;
  void OnGroupLost(uint64_t epoch, const absl::Status& reason) override;

  /// The group of the first epoch after `after`; null if none comes.
  std::shared_ptr<RankGroup> WaitForGroup(uint64_t after = 0) const;
  /// The reason; nullopt if it does not come.
  std::optional<absl::Status> WaitForLoss(uint64_t epoch) const;
  /// False if there are not that many in time.
  bool WaitForSteps(size_t count) const;
  std::vector<v1::StepResult> steps() const;
  /// Calls overlapped, or came after the loss of their epoch.
  bool disorder() const;

 private:
  mutable absl::Mutex mutex_;
  std::vector<std::shared_ptr<RankGroup>> groups_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::pair<uint64_t, absl::Status>> losses_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::StepResult> steps_ ABSL_GUARDED_BY(mutex_);
  bool disorder_ ABSL_GUARDED_BY(mutex_) = false;
};

inline constexpr absl::Duration kTestDeadline = absl::Seconds(30);

/// Shuts down when it goes; workers may outlive it or not.
class SmallCluster {
 public:
  SmallCluster(ClusterConfig config, GroupObserver* observer)
      : SmallCluster(std::move(config), std::vector<GroupObserver*>{observer}) {}
  /// One observer for each replica.
  SmallCluster(ClusterConfig config, std::vector<GroupObserver*> observers);
  ~SmallCluster();

  Cluster& cluster() { return cluster_; }
  /// "127.0.0.1:PORT".
  std::string address() const;
  /// A connection of its own with each call.
  std::shared_ptr<grpc::Channel> Connect() const;
  /// Until the topology is in `state`; the last topology.
  v1::GetTopologyResponse WaitForState(v1::ClusterState state) const;

 private:
  Cluster cluster_;
  ClusterService service_;
  AdminService admin_service_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CLUSTER_TESTING_SMALL_CLUSTER_H_
