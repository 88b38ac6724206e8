// The communicators of one rank in the making: endpoints first, then, when the coordinator has told
// all ranks all addresses, the connections.
#ifndef LOCKSTEP_WORKER_RANK_GROUPS_H_
#define LOCKSTEP_WORKER_RANK_GROUPS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/lockstep/v1/cluster.pb.h"
#include "worker/collective/collective.h"
#include "worker/progress.h"

namespace lockstep::worker {

/// The communicators of one rank. `tensor` is always there; the other two only with several stages.
struct RankGroups {
  std::unique_ptr<Collective> tensor;
  std::unique_ptr<Collective> activations;
  std::unique_ptr<Collective> tokens;

  /// Nanoseconds spent waiting in all of them. Thread-safe.
  int64_t wait_ns() const;
};

/// Thread-safe: one thread connects and uses the groups, any other may Abort.
class RankGroupsSetup {
 public:
  /// Opens the endpoints of the assignment's groups. `addend_capacity`: floats of the largest
  /// all-reduce; TCP listens on `data_interface`. InvalidArgument for groups that do not fit the
  /// assignment's plan.
  static absl::StatusOr<std::unique_ptr<RankGroupsSetup>> Create(const v1::Assignment& assignment,
                                                                 int64_t addend_capacity,
                                                                 const std::string& data_interface);

  /// By group name; groups of one have none.
  std::map<std::string, std::string> addresses() const;

  /// Connects every group, in the order of their purposes, which is the same on all ranks. Blocks
  /// until all stand, `deadline` passes or Abort. Errors name the group.
  absl::Status Connect(const v1::CollectivePeers& peers, absl::Time deadline, Progress& progress);

  /// After Connect; owned by this object.
  RankGroups& groups() { return groups_; }

  /// Fails Connect and every later operation of the groups within 10 ms. Idempotent.
  void Abort(const std::string& reason);

 private:
  struct Member {
    v1::CollectiveGroup group;
    std::unique_ptr<CollectiveSetup> setup;  // null for groups of one
  };

  absl::StatusOr<std::unique_ptr<Collective>> ConnectOne(const Member& member,
                                                         const v1::CollectivePeers& peers,
                                                         absl::Time deadline);
  /// Puts the collective into its place, or aborts it if Abort came first.
  absl::Status Keep(const v1::CollectiveGroup& group, std::unique_ptr<Collective> collective);

  std::vector<Member> members_;  // by purpose; fixed after Create
  std::mutex mutex_;
  bool aborted_ = false;      // guarded by mutex_
  std::string abort_reason_;  // guarded by mutex_
  RankGroups groups_;         // filled under mutex_
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_RANK_GROUPS_H_
