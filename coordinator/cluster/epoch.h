// One formation of the cluster, from the assignment of ranks until its end: what every rank was
// told and how far it has come.
#ifndef LOCKSTEP_COORDINATOR_CLUSTER_EPOCH_H_
#define LOCKSTEP_COORDINATOR_CLUSTER_EPOCH_H_

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/cluster/cluster_config.h"
#include "coordinator/cluster/rank_groups.h"
#include "coordinator/cluster/worker_info.h"
#include "coordinator/engine/rank_group.h"
#include "proto/lockstep/v1/cluster.pb.h"

namespace lockstep::coordinator {

struct RankState {
  MemberId member;
  WorkerInfo worker;
  v1::Assignment assignment;
  std::optional<std::map<std::string, std::string>> address_by_group;
  uint64_t loaded_bytes = 0;
  uint64_t total_bytes = 0;
  std::optional<v1::Ready> ready;
  bool stream_open = false;
  bool done() const { return ready.has_value() && stream_open; }
};

/// Not thread-safe.
class Epoch {
 public:
  struct PlacedWorker {
    MemberId member;
    WorkerInfo worker;
  };
  /// `workers` by rank.
  Epoch(const ClusterConfig& config, uint64_t number, std::span<const PlacedWorker> workers,
        int64_t kv_blocks);

  uint64_t number() const { return limits_.epoch; }
  const GroupLimits& limits() const { return limits_; }
  /// By rank.
  const std::vector<RankState>& ranks() const { return ranks_; }
  std::vector<RankState>& ranks() { return ranks_; }
  /// Null for a member without a rank.
  RankState* RankOf(MemberId member);

  /// InvalidArgument if a group that has peers lacks an address.
  absl::Status TakeAddresses(RankState& rank, const v1::CollectiveAddresses& addresses);
  bool HasAllAddresses() const;
  /// What rank `rank` needs once HasAllAddresses.
  v1::CollectivePeers PeersOf(size_t rank) const;
  /// All are ready and have opened their streams.
  bool AllDone() const;
  /// "2 of 4 ranks ready" and the like.
  std::string Describe() const;
  /// The ranks that are waited for: "rank 1 (cpu:0 on node a)".
  std::string Laggards() const;

 private:
  std::vector<RankGroupSpec> groups_;
  std::vector<RankState> ranks_;
  GroupLimits limits_;
};

/// "rank 1 (cpu:0 on node a)".
std::string DescribeRank(const RankState& rank);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CLUSTER_EPOCH_H_
