// All figures of a run, from what was kept of its requests.
#ifndef LOCKSTEP_COORDINATOR_CTL_BENCH_BENCH_RESULT_H_
#define LOCKSTEP_COORDINATOR_CTL_BENCH_BENCH_RESULT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/ctl/bench/decode_window.h"
#include "coordinator/ctl/bench/load_generator.h"
#include "coordinator/ctl/bench/statistics.h"

namespace lockstep::coordinator {

/// Requests that ended with the same status code.
struct ErrorCount {
  /// "RESOURCE_EXHAUSTED".
  std::string code;
  int64_t count = 0;
  /// Of the first of them.
  std::string message;
};

/// Latencies and tokens are those of completed requests.
struct BenchResult {
  int64_t completed = 0;
  int64_t failed = 0;
  int64_t max_in_flight = 0;
  /// From the first request's sending to the last one's end.
  double seconds = 0;
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t output_tokens = 0;
  double requests_per_second = 0;
  double output_tokens_per_second = 0;
  double total_tokens_per_second = 0;
  /// From sending to the first token.
  Summary ttft_ms;
  /// A request's mean time from one token to the next: (last - first) / (tokens - 1).
  Summary tpot_ms;
  /// From one message with tokens to the next; a server that is behind puts several into one.
  Summary itl_ms;
  /// From sending to the end of the stream.
  Summary e2el_ms;
  /// Absent without a fixed concurrency, or when so many never decoded at once.
  std::optional<DecodeWindow> decode_window;
  /// By code, the most frequent first.
  std::vector<ErrorCount> errors;
  /// Cores that the load generator itself kept busy; near 1, it and not the server is measured.
  double client_cpus = 0;
};

/// `concurrency`: as in LoadOptions.
BenchResult MakeBenchResult(const LoadResult& load, std::optional<int64_t> concurrency);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CTL_BENCH_BENCH_RESULT_H_
