// Sums, and a ring of the last gaps for their median.
#include "coordinator/cluster/step_times.h"

#include <algorithm>

namespace lockstep::coordinator {

void StepTimes::Add(const v1::StepResult& result, absl::Time now) {
  if (recent_gaps_ns_.size() < kRecent) {
    recent_gaps_ns_.push_back(result.gap_ns());
  } else {
    recent_gaps_ns_[sums_.steps % kRecent] = result.gap_ns();
  }
  sums_.step_ns = result.step_ns();
  sums_.wait_ns = result.wait_ns();
  sums_.at = now;
  ++sums_.steps;
  sums_.total_step_ns += result.step_ns();
  sums_.total_wait_ns += result.wait_ns();
  sums_.total_gap_ns += result.gap_ns();
}

RankStepTimes StepTimes::Read() const {
  RankStepTimes times = sums_;
  if (recent_gaps_ns_.empty()) return times;
  std::vector<uint64_t> gaps = recent_gaps_ns_;
  const auto middle = gaps.begin() + static_cast<std::ptrdiff_t>(gaps.size() / 2);
  std::nth_element(gaps.begin(), middle, gaps.end());
  times.median_gap_ns = *middle;
  return times;
}

}  // namespace lockstep::coordinator
