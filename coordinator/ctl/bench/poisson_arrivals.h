// When requests come: a Poisson process, each gap drawn from an exponential distribution.
#ifndef LOCKSTEP_COORDINATOR_CTL_BENCH_POISSON_ARRIVALS_H_
#define LOCKSTEP_COORDINATOR_CTL_BENCH_POISSON_ARRIVALS_H_

#include <cstdint>
#include <random>

#include "coordinator/ctl/bench/seeded_generator.h"

namespace lockstep::coordinator {

/// The arrival times of one run, in order. Not thread-safe.
class PoissonArrivals {
 public:
  /// `rate` > 0 is the mean number of arrivals a second.
  PoissonArrivals(double rate, uint64_t seed)
      : generator_(SeededGenerator(seed, RandomUse::kArrivals, 0)), gap_(rate) {}

  /// Seconds from the start of the run to the next arrival; the first one comes after a gap too.
  double Next() { return seconds_ += gap_(generator_); }

 private:
  std::mt19937_64 generator_;
  std::exponential_distribution<double> gap_;
  double seconds_ = 0;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CTL_BENCH_POISSON_ARRIVALS_H_
