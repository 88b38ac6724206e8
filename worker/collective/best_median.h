// How tests assert a promise about time on machines that also do other things.
#ifndef LOCKSTEP_WORKER_COLLECTIVE_BEST_MEDIAN_H_
#define LOCKSTEP_WORKER_COLLECTIVE_BEST_MEDIAN_H_

#include <algorithm>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"

namespace lockstep::worker {

/// The median of seven delays that `trial` returns; taken again, up to four more times, while it is
/// not below `promise`, and then the smallest. Other work may delay one round or another, whereas a
/// promise that is broken, such as a wake-up that comes only with a timeout, delays most trials of
/// every round.
inline absl::Duration BestMedian(absl::Duration promise,
                                 absl::FunctionRef<absl::Duration()> trial) {
  constexpr int kRounds = 5;
  constexpr int kTrials = 7;
  absl::Duration best = absl::InfiniteDuration();
  for (int round = 0; round < kRounds && best >= promise; ++round) {
    std::vector<absl::Duration> delays;
    for (int i = 0; i < kTrials; ++i) delays.push_back(trial());
    std::ranges::nth_element(delays, delays.begin() + kTrials / 2);
    best = std::min(best, delays[kTrials / 2]);
  }
  return best;
}

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_COLLECTIVE_BEST_MEDIAN_H_
