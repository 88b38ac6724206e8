// How long a rank's steps took, summed up over its epoch.
#ifndef LOCKSTEP_COORDINATOR_CLUSTER_STEP_TIMES_H_
#define LOCKSTEP_COORDINATOR_CLUSTER_STEP_TIMES_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "proto/lockstep/v1/cluster.pb.h"

namespace lockstep::coordinator {

/// The fields of StepResult, in nanoseconds.
struct RankStepTimes {
  // Of the last answered step; at is InfinitePast before the first.
  uint64_t step_ns = 0;
  uint64_t wait_ns = 0;
  absl::Time at = absl::InfinitePast();
  // Of all of them.
  uint64_t steps = 0;
  uint64_t total_step_ns = 0;
  uint64_t total_wait_ns = 0;
  uint64_t total_gap_ns = 0;
  // Of the last StepTimes::kRecent.
  uint64_t median_gap_ns = 0;
};

/// Of one rank. Not thread-safe.
class StepTimes {
 public:
  static constexpr size_t kRecent = 1024;

  void Add(const v1::StepResult& result, absl::Time now);
  RankStepTimes Read() const;

 private:
  RankStepTimes sums_;                    // without the median
  std::vector<uint64_t> recent_gaps_ns_;  // a ring, once it is full
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CLUSTER_STEP_TIMES_H_
