// The few numbers that stand for many.
#ifndef LOCKSTEP_COORDINATOR_CTL_BENCH_STATISTICS_H_
#define LOCKSTEP_COORDINATOR_CTL_BENCH_STATISTICS_H_

#include <cstdint>
#include <vector>

namespace lockstep::coordinator {

/// All zero when there was no value.
struct Summary {
  int64_t count = 0;
  double mean = 0;
  double p50 = 0;
  double p90 = 0;
  double p99 = 0;
  double max = 0;
};

/// Percentiles are interpolated linearly between neighbours, as NumPy's percentile does: the p-th
/// stands at p / 100 * (count - 1) of the sorted values.
Summary Summarize(std::vector<double> values);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CTL_BENCH_STATISTICS_H_
