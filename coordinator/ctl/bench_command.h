// `coordinatorctl bench`: load on a running server, and what it did with it.
#ifndef LOCKSTEP_COORDINATOR_CTL_BENCH_COMMAND_H_
#define LOCKSTEP_COORDINATOR_CTL_BENCH_COMMAND_H_

#include <cstdint>
#include <optional>
#include <string>

namespace lockstep::coordinator {

struct BenchOptions {
  std::string coordinator;  // HOST:PORT
  /// As the flags of the same names; absent ones take what ResolveLoad in the .cc file says.
  std::optional<int64_t> concurrency;
  std::optional<double> rate;
  std::optional<int64_t> requests;
  std::optional<double> duration_s;
  /// As LengthDistribution::Parse reads them.
  std::string prompt_tokens = "64";
  std::string output_tokens = "64";
  int64_t shared_prefix_tokens = 0;
  int64_t prefixes = 1;
  bool ignore_eos = false;
  std::optional<double> temperature;
  uint64_t seed = 0;
  /// Requests before the measured ones, under the same load.
  int64_t warmup = 0;
  int channels = 1;
  bool json = false;
};

/// Figures go to stdout, progress and errors to stderr. Returns the exit status: 0 when every
/// request was completed, 1 when one failed or no server answered, 2 for illegal options, 130 when
/// interrupted (what was measured until then is printed).
int RunBench(const BenchOptions& options);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CTL_BENCH_COMMAND_H_
