// The cluster as one object: feeds the streams' events and the clock to the state machine and
// carries out its commands; the border between gRPC's threads and the engine.
#ifndef LOCKSTEP_COORDINATOR_CLUSTER_CLUSTER_H_
#define LOCKSTEP_COORDINATOR_CLUSTER_CLUSTER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "coordinator/cluster/cluster_config.h"
#include "coordinator/cluster/formation.h"
#include "coordinator/cluster/links.h"
#include "coordinator/cluster/streamed_rank_group.h"
#include "coordinator/engine/rank_group.h"
#include "proto/lockstep/v1/admin.pb.h"
#include "proto/lockstep/v1/cluster.pb.h"

namespace lockstep::coordinator {

/// Thread-safe. One thread of its own, asleep but for formation's deadlines. An observer is called
/// from the streams' threads, under the cluster's mutex (but for OnStepDone), so it must not call
/// back into the cluster other than by RankGroup::Submit. Replicas share nothing but the mutex,
/// which no step takes.
class Cluster {
 public:
  /// `observers`, one for each of config.replicas, must outlive the cluster. `on_serving`, if any,
  /// hears true when the first replica begins to serve and false when the last one ends; under the
  /// same rule.
  Cluster(ClusterConfig config, std::vector<GroupObserver*> observers,
          std::function<void(bool serving)> on_serving = {});
  /// The streams must have ended, that is, the gRPC server must be gone.
  ~Cluster();
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  /// A worker's first message on a Join stream. The same worker_id on another stream replaces that.
  /// Errors as in CheckRegister; Unavailable after Shutdown.
  absl::StatusOr<MemberId> Register(const v1::Register& message, std::shared_ptr<ControlLink> link)
      ABSL_LOCKS_EXCLUDED(mutex_);
  /// Its further messages, in order. InvalidArgument for one that may not come here.
  absl::Status Handle(MemberId id, const v1::JoinRequest& message) ABSL_LOCKS_EXCLUDED(mutex_);
  /// Its Join stream has ended.
  void Leave(MemberId id, const absl::Status& reason) ABSL_LOCKS_EXCLUDED(mutex_);

  /// A rank's Execute stream; its results go to the group. FailedPrecondition for a stale epoch.
  absl::StatusOr<std::shared_ptr<StreamedRankGroup>> OpenStream(const v1::ExecuteHello& hello,
                                                                std::shared_ptr<BatchLink> link)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void StreamEnded(uint64_t epoch, uint32_t rank, const absl::Status& reason)
      ABSL_LOCKS_EXCLUDED(mutex_);

  /// Ends the epoch and sends every worker home.
  void Shutdown(const std::string& reason) ABSL_LOCKS_EXCLUDED(mutex_);

  /// Without the engine's fields.
  v1::GetTopologyResponse Topology() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Execute(const Commands& commands) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Serve(const EpochServing& serving) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void End(const EpochEnded& ended) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StepsFailed(uint64_t epoch, const absl::Status& reason) ABSL_LOCKS_EXCLUDED(mutex_);
  void WatchTime() ABSL_LOCKS_EXCLUDED(mutex_);

  const std::vector<GroupObserver*> observers_;  // by replica
  const std::function<void(bool serving)> on_serving_;

  mutable absl::Mutex mutex_;
  absl::CondVar changed_;
  Formation formation_ ABSL_GUARDED_BY(mutex_);
  std::map<MemberId, std::shared_ptr<ControlLink>> links_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_member_ ABSL_GUARDED_BY(mutex_) = 1;
  // By replica: of the epoch that stands, from its first Execute stream on; else null.
  std::vector<std::shared_ptr<StreamedRankGroup>> groups_ ABSL_GUARDED_BY(mutex_);
  int serving_ ABSL_GUARDED_BY(mutex_) = 0;
  bool shut_down_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;

  // Last: it uses all of the above.
  std::thread timer_;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CLUSTER_CLUSTER_H_
