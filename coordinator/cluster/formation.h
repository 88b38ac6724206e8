// How the cluster forms, serves, breaks and forms again: a pure state machine. Events and the time
// go in, commands come out; it does no I/O and asks no clock.
//
//   waiting --enough workers, room for a context--> forming --all ready, streams open--> serving
//   forming, serving --a rank is lost or fails--> (a pause) --> waiting
//   ... --a failure that trying again does not change--> failed --a worker joins or leaves-->
//   waiting
#ifndef LOCKSTEP_COORDINATOR_CLUSTER_FORMATION_H_
#define LOCKSTEP_COORDINATOR_CLUSTER_FORMATION_H_

#include <cstdint>
#include <optional>
#include <string>
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
  GroupLimits limits;
};
/// Comes once for every epoch that began; its Execute streams are to be closed.
struct EpochEnded {
  uint64_t epoch = 0;
  bool served = false;
  absl::Status reason;
};
using Command = std::variant<SendToWorker, EpochServing, EpochEnded>;
using Commands = std::vector<Command>;

/// Not thread-safe. Every event returns the commands to carry out, in order. Events of another
/// epoch or from an unknown member are dropped.
class Formation {
 public:
  explicit Formation(ClusterConfig config);

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
  /// The steps went wrong: ranks disagree, or one answers what was not asked.
  Commands StepsFailed(uint64_t epoch, const absl::Status& reason, absl::Time now);
  /// Ends the epoch and sends every worker home; nothing forms afterwards.
  Commands Shutdown(const std::string& reason);

  /// When TimePassed has something to do if nothing happens before.
  std::optional<absl::Time> NextDeadline() const;
  Commands TimePassed(absl::Time now);

  v1::ClusterState state() const;
  /// Why it is in that state, for people; empty while serving.
  std::string detail() const;
  const ClusterConfig& config() const { return config_; }
  const Membership& membership() const { return membership_; }
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
  void Assign(const std::vector<size_t>& worker_of_rank, absl::Time now);
  void ServeIfAllDone();
  void EndEpoch(const absl::Status& reason, absl::Time now);
  void Send(MemberId to, v1::JoinResponse message);
  // The membership has changed: what failed may work now.
  void Reconsider(absl::Time now);

  const ClusterConfig config_;
  Membership membership_;
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

#endif  // LOCKSTEP_COORDINATOR_CLUSTER_FORMATION_H_
