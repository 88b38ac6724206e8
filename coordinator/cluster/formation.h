// How the cluster's replicas form, out of one set of workers: a pure state machine. Events and the
// time go in, commands come out; it does no I/O and asks no clock.
//
// Each replica lives a life of its own (replica_formation.h): it takes its ranks from the workers
// that no other has, and when its epoch ends the others go on. Epochs' numbers are unique over all
// replicas, so that a number names one.
#ifndef LOCKSTEP_COORDINATOR_CLUSTER_FORMATION_H_
#define LOCKSTEP_COORDINATOR_CLUSTER_FORMATION_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/cluster/cluster_config.h"
#include "coordinator/cluster/membership.h"
#include "coordinator/cluster/replica_formation.h"
#include "coordinator/cluster/worker_info.h"
#include "proto/lockstep/v1/admin.pb.h"
#include "proto/lockstep/v1/cluster.pb.h"

namespace lockstep::coordinator {

/// Not thread-safe. Every event returns the commands to carry out, in order. Events of an epoch
/// that does not stand, or from an unknown member, are dropped.
class Formation {
 public:
  explicit Formation(ClusterConfig config);
  Formation(const Formation&) = delete;
  Formation& operator=(const Formation&) = delete;

  Commands WorkerRegistered(MemberId id, WorkerInfo worker, absl::Time now);
  Commands WorkerLeft(MemberId id, const absl::Status& reason, absl::Time now);
  Commands AddressesTold(MemberId id, const v1::CollectiveAddresses& addresses, absl::Time now);
  void LoadProgressed(MemberId id, const v1::LoadProgress& progress, absl::Time now);
  void HeartbeatCame(MemberId id, const v1::Progress& progress, absl::Time now);
  Commands RankReady(MemberId id, const v1::Ready& ready, absl::Time now);
  Commands RankFailed(MemberId id, const v1::EpochFailed& failure, absl::Time now);
  /// FailedPrecondition for a stale epoch, a rank that is none or has its stream already.
  absl::StatusOr<Commands> StreamOpened(const v1::ExecuteHello& hello, absl::Time now);
  Commands StreamClosed(uint64_t epoch, uint32_t rank, const absl::Status& reason, absl::Time now);
  /// An epoch's steps went wrong: ranks disagree, or one answers what was not asked.
  Commands StepsFailed(uint64_t epoch, const absl::Status& reason, absl::Time now);
  /// Ends all epochs and sends every worker home; nothing forms afterwards.
  Commands Shutdown(const std::string& reason);

  /// When TimePassed has something to do if nothing happens before.
  std::optional<absl::Time> NextDeadline() const;
  Commands TimePassed(absl::Time now);

  /// The best of the replicas' states.
  v1::ClusterState state() const;
  /// Why the replicas that do not serve are in their state, for people; empty if all serve.
  std::string detail() const;
  const ClusterConfig& config() const { return config_; }
  const Membership& membership() const { return membership_; }
  int size() const { return static_cast<int>(replicas_.size()); }
  const ReplicaFormation& replica(int index) const { return *replicas_[index]; }
  /// The replica whose epoch this is, if it stands.
  std::optional<int> ReplicaOf(uint64_t epoch) const;

 private:
  // Null if the epoch does not stand.
  ReplicaFormation* Find(uint64_t epoch);
  // What each replica says to an event that concerns all.
  Commands Collect(const std::function<Commands(ReplicaFormation&)>& event);

  const ClusterConfig config_;
  Membership membership_;
  std::vector<std::unique_ptr<ReplicaFormation>> replicas_;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CLUSTER_FORMATION_H_
