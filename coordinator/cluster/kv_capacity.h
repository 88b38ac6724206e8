// How many key-value blocks the ranks of a placed plan have room for.
#ifndef LOCKSTEP_COORDINATOR_CLUSTER_KV_CAPACITY_H_
#define LOCKSTEP_COORDINATOR_CLUSTER_KV_CAPACITY_H_

#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "coordinator/cluster/worker_info.h"
#include "model/parallel_plan.h"

namespace lockstep::coordinator {

/// The blocks that every rank can hold: the least over the ranks of memory_bytes * memory_fraction
/// less weights and activations, but no more than max_sequences full contexts take.
/// `worker_of_rank` is by rank, like plan.ranks. FailedPrecondition, with the numbers and the flags
/// that would help, when a rank has no room for one sequence of the plan's context.
absl::StatusOr<int64_t> KvBlocksFor(const model::ParallelPlan& plan,
                                    std::span<const WorkerInfo> worker_of_rank,
                                    int64_t max_sequences);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CLUSTER_KV_CAPACITY_H_
