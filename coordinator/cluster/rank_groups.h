// The communicators of a placed plan: who is in which, and over what they speak.
#ifndef LOCKSTEP_COORDINATOR_CLUSTER_RANK_GROUPS_H_
#define LOCKSTEP_COORDINATOR_CLUSTER_RANK_GROUPS_H_

#include <span>
#include <string>
#include <vector>

#include "coordinator/cluster/worker_info.h"
#include "proto/lockstep/v1/cluster.pb.h"

namespace lockstep::coordinator {

struct RankGroupSpec {
  v1::CollectiveGroup::Purpose purpose;
  std::string name;  // "tp<stage>", "pp<tp_rank>", "ret<tp_rank>"
  v1::Transport transport;
  std::vector<int> ranks;  // in order of the rank within the group
};

/// Every communicator of the plan: the tensor group of each stage and, with more than one stage,
/// for each tp_rank one for activations and one for returning tokens. `worker_of_rank` by rank. One
/// rank alone speaks SOLO, ranks of one shared-memory domain SHM, others TCP.
std::vector<RankGroupSpec> MakeRankGroups(std::span<const WorkerInfo> worker_of_rank, int tp_size,
                                          int pp_size);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CLUSTER_RANK_GROUPS_H_
