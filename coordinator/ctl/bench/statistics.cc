// See statistics.h.
#include "coordinator/ctl/bench/statistics.h"

#include <algorithm>
#include <numeric>

namespace lockstep::coordinator {
namespace {

double Percentile(const std::vector<double>& sorted, double fraction) {
  const double position = fraction * static_cast<double>(sorted.size() - 1);
  const size_t below = static_cast<size_t>(position);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (sorted[above] - sorted[below]) * (position - static_cast<double>(below));
}

}  // namespace

Summary Summarize(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return {.count = static_cast<int64_t>(values.size()),
          .mean = sum / static_cast<double>(values.size()),
          .p50 = Percentile(values, 0.50),
          .p90 = Percentile(values, 0.90),
          .p99 = Percentile(values, 0.99),
          .max = values.back()};
}

}  // namespace lockstep::coordinator
