// Gathers the ranks' answers to each step until all have come, and sees to it that they agree.
#ifndef LOCKSTEP_COORDINATOR_CLUSTER_STEP_COLLECTOR_H_
#define LOCKSTEP_COORDINATOR_CLUSTER_STEP_COLLECTOR_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/lockstep/v1/cluster.pb.h"

namespace lockstep::coordinator {

/// Of one epoch. Not thread-safe.
class StepCollector {
 public:
  /// Tokens are taken from `reporting_rank`'s answers.
  StepCollector(uint64_t epoch, uint32_t world_size, uint32_t reporting_rank);

  /// Takes the answer of `rank`, below world_size; steps up to `submitted` have been sent. Returns
  /// the reporting rank's answer once every rank has answered the step, which happens in order of
  /// step_id. Internal if the answer belongs to another epoch, is not to the rank's next step, or
  /// its digest differs from another rank's; the collector is of no more use then.
  absl::StatusOr<std::optional<v1::StepResult>> Take(uint32_t rank, v1::StepResult result,
                                                     uint64_t submitted);

 private:
  struct Pending {
    uint32_t answers = 0;
    uint32_t first_rank = 0;
    uint64_t digest = 0;
    v1::StepResult reported;
  };

  const uint64_t epoch_;
  const uint32_t world_size_;
  const uint32_t reporting_rank_;
  // The step that each rank answers next.
  std::vector<uint64_t> next_step_;
  // Steps first_pending_, first_pending_ + 1, ...
  std::deque<Pending> pending_;
  uint64_t first_pending_ = 1;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CLUSTER_STEP_COLLECTOR_H_
