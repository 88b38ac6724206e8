// The workers that are registered, in order, with their last heartbeats and the replicas that they
// belong to.
#ifndef LOCKSTEP_COORDINATOR_CLUSTER_MEMBERSHIP_H_
#define LOCKSTEP_COORDINATOR_CLUSTER_MEMBERSHIP_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/cluster/worker_info.h"
#include "proto/lockstep/v1/cluster.pb.h"

namespace lockstep::coordinator {

/// What a Register message says, checked. FailedPrecondition for another protocol version,
/// InvalidArgument for a field that makes no sense.
absl::StatusOr<WorkerInfo> CheckRegister(const v1::Register& message);

struct Member {
  WorkerInfo info;
  v1::Progress progress;
  absl::Time heartbeat_at;     // the registration counts as the first
  std::optional<int> replica;  // whose epoch it has a rank in; none for a spare
};

/// Not thread-safe.
class Membership {
 public:
  void Add(MemberId id, WorkerInfo info, absl::Time now);
  /// False if it was not there.
  bool Remove(MemberId id);
  void Heartbeat(MemberId id, const v1::Progress& progress, absl::Time now);

  /// By MemberId, which is the order of registration.
  const std::map<MemberId, Member>& members() const { return members_; }
  const Member* Find(MemberId id) const;
  std::vector<MemberId> Ids() const;
  /// Those that belong to no replica.
  std::vector<MemberId> FreeIds() const;

  void Claim(MemberId id, int replica);
  /// All of the replica's workers belong to none again.
  void Release(int replica);

  /// The number of an epoch that begins: it exceeds all that were taken before and all that any
  /// worker, gone ones included, has reported.
  uint64_t TakeEpoch() { return ++highest_epoch_; }

 private:
  std::map<MemberId, Member> members_;
  uint64_t highest_epoch_ = 0;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CLUSTER_MEMBERSHIP_H_
