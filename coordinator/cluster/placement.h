// Which worker becomes which rank. Pure functions of the workers that are there.
#ifndef LOCKSTEP_COORDINATOR_CLUSTER_PLACEMENT_H_
#define LOCKSTEP_COORDINATOR_CLUSTER_PLACEMENT_H_

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/cluster/worker_info.h"

namespace lockstep::coordinator {

struct PlacementRequest {
  int tp_size = 1;
  int pp_size = 1;
  bool allow_cross_node_tp = false;
  int world_size() const { return tp_size * pp_size; }
};

/// Indices into `workers`, by rank (pp_stage * tp_size + tp_rank). A node is a shared-memory
/// domain. Nodes are taken by their lowest local_index, then by name; the workers of a node by
/// local_index, then device, then order. A stage lies inside one node, and stages fill a node
/// before the next; with allow_cross_node_tp the stages that are left are filled from what is left
/// over. So the ranks do not depend on the order in which workers happen to register, unless two
/// are alike. Unavailable, with what is missing, when the workers do not suffice.
absl::StatusOr<std::vector<size_t>> PlaceRanks(std::span<const WorkerInfo> workers,
                                               const PlacementRequest& request);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CLUSTER_PLACEMENT_H_
