// How one replica forms, serves, breaks and forms again: a pure state machine. Events and the time
// go in, commands come out; it does no I/O and asks no clock.
//
//   waiting --enough workers, room for a context--> forming --all ready, streams open--> serving
//   forming, serving --a rank is lost or fails--> (a pause) --> waiting
//   ... --a failure that trying again does not change--> failed --a worker joins or leaves-->
//   waiting
#ifndef LOCKSTEP_COORDINATOR_CLUSTER_REPLICA_FORMATION_H_
#define LOCKSTEP_COORDINATOR_CLUSTER_REPLICA_FORMATION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/cluster/cluster_config.h"
#include "coordinator/cluster/epoch.h"
#include "coordinator/cluster/membership.h"
#include "coordinator/cluster/worker_info.h"
#include "coordinator/engine/rank_group.h"
#include "proto/lockstep/v1/admin.pb.h"
#include "proto/lockstep/v1/cluster.pb.h"

namespace lockstep::coordinator {

struct SendToWorker {
  MemberId to;
  v1::JoinResponse message;
};
/// All ranks are ready: the group may take steps.
struct EpochServing {
  int replica = 0;
  GroupLimits limits;
};
/// Comes once for every epoch that began; its Execute streams are to be closed.
struct EpochEnded {
  int replica = 0;
  uint64_t epoch = 0;
  bool served = false;
  absl::Status reason;
};
using Command = std::variant<SendToWorker, EpochServing, EpochEnded>;
using Commands = std::vector<Command>;

/// Not thread-safe. Every event returns the commands to carry out, in order. Events of another
/// epoch are dropped.
class ReplicaFormation {
 public:
  /// `membership` is shared by all replicas and outlives this: ranks are taken from workers that
  /// belong to none.
  ReplicaFormation(const ClusterConfig& config, int replica, Membership* membership);

  /// A worker has come or gone: what failed, or was short of workers, may work now.
  Commands WorkersChanged(absl::Time now);
  /// A rank's worker is no member any more.
  Commands RankLeft(MemberId id, const absl::Status& reason, absl::Time now);
  Commands AddressesTold(MemberId id, const v1::CollectiveAddresses& addresses, absl::Time now);
  void LoadProgressed(MemberId id, const v1::LoadProgress& progress, absl::Time now);
  void HeartbeatCame(MemberId id, const v1::Progress& progress, absl::Time now);
  Commands RankReady(MemberId id, const v1::Ready& ready, absl::Time now);
  Commands RankFailed(MemberId id, const v1::EpochFailed& failure, absl::Time now);
  /// FailedPrecondition for a rank that is none or has its stream already, or too early.
  absl::StatusOr<Commands> StreamOpened(const v1::ExecuteHello& hello, absl::Time now);
  Commands StreamClosed(uint32_t rank, const absl::Status& reason, absl::Time now);
  /// Its steps went wrong: ranks disagree, or one answers what was not asked.
  Commands StepsFailed(const absl::Status& reason, absl::Time now);
  /// Ends the epoch; nothing forms afterwards.
  Commands Shutdown(const std::string& reason);

  /// When TimePassed has something to do if nothing happens before.
  std::optional<absl::Time> NextDeadline() const;
  Commands TimePassed(absl::Time now);

  v1::ClusterState state() const;
  /// Why it is in that state, for people; empty while serving.
  std::string detail() const;
  /// Null while there is none.
  const Epoch* epoch() const { return epoch_ ? &*epoch_ : nullptr; }
  /// Of the last epoch that began; 0 for none.
  uint64_t last_epoch() const { return last_epoch_; }

 private:
  // Exactly one of these holds at a time.
  enum class Phase { kWaiting, kPausing, kConnecting, kLoading, kServing, kFailed, kShutDown };

  Commands Take() { return std::exchange(commands_, {}); }
  // The rank of the member if `epoch` is the one that stands, else null.
  RankState* CurrentRank(MemberId id, uint64_t epoch);
  void TryToForm(absl::Time now);
  void Assign(const std::vector<MemberId>& member_of_rank, absl::Time now);
  void ServeIfAllDone();
  void EndEpoch(const absl::Status& reason, absl::Time now);
  void Send(MemberId to, v1::JoinResponse message);

  const ClusterConfig& config_;
  const int replica_;
  Membership* const membership_;
  Phase phase_ = Phase::kWaiting;
  std::optional<Epoch> epoch_;
  uint64_t last_epoch_ = 0;
  // Since when nothing has moved in this phase.
  absl::Time moved_at_ = absl::InfinitePast();
  absl::Time retry_at_ = absl::InfiniteFuture();
  int failures_in_a_row_ = 0;
  // What is missing, or what has failed.
  std::string detail_;
  std::string last_failure_;
  Commands commands_;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CLUSTER_REPLICA_FORMATION_H_
