// The state of the cluster as AdminService tells it.
#ifndef LOCKSTEP_COORDINATOR_CLUSTER_TOPOLOGY_H_
#define LOCKSTEP_COORDINATOR_CLUSTER_TOPOLOGY_H_

#include <span>
#include <vector>

#include "absl/time/time.h"
#include "coordinator/cluster/formation.h"
#include "coordinator/cluster/step_times.h"
#include "proto/lockstep/v1/admin.pb.h"

namespace lockstep::coordinator {

/// All fields but the engine's (requests, blocks used). `step_times` by replica and rank, empty
/// before the first Execute stream. Weight and KV bytes are the plan's until the rank has told its
/// own.
v1::GetTopologyResponse MakeTopology(const Formation& formation,
                                     std::span<const std::vector<RankStepTimes>> step_times,
                                     absl::Time now);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CLUSTER_TOPOLOGY_H_
