// Sends requests to a running server, so many at once or so many a second, and notes when each
// token comes.
#ifndef LOCKSTEP_COORDINATOR_CTL_BENCH_LOAD_GENERATOR_H_
#define LOCKSTEP_COORDINATOR_CTL_BENCH_LOAD_GENERATOR_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "coordinator/ctl/bench/request_record.h"
#include "grpcpp/channel.h"
#include "proto/lockstep/v1/inference.pb.h"

namespace lockstep::coordinator {

/// When requests are sent. At least one of `requests` and `seconds` must be there: the first that
/// is reached ends the sending; what runs then runs on to its end.
struct LoadOptions {
  /// Most requests at once, at least 1; absent: as many as come.
  std::optional<int64_t> concurrency;
  /// Mean arrivals a second of a Poisson process, > 0; absent: at once.
  std::optional<double> rate;
  std::optional<int64_t> requests;
  std::optional<double> seconds;
  /// Nothing more is sent once every request that ended for so long was UNAVAILABLE.
  double give_up_after_s = 10;
  /// Of the arrivals.
  uint64_t seed = 0;
};

struct LoadProgress {
  double seconds = 0;
  int64_t sent = 0;
  int64_t done = 0;
  int64_t failed = 0;
  int64_t output_tokens = 0;
};

struct LoadResult {
  /// In the order in which requests ended.
  std::vector<RequestRecord> records;
  int64_t max_in_flight = 0;
  /// Processor time of this process from the first request to the end of the last one.
  double cpu_seconds = 0;
};

/// Blocks until every request has ended; all work is done on the calling thread, which calls
/// `make_request` with 0, 1, 2 ... and `on_progress` about five times a second and at the end.
/// Requests go round `channels` (at least one). Failures are records like others; after UNAVAILABLE
/// nothing is sent for 100 ms, so that a server that is gone is not called in a tight loop. Once
/// `stop` is true, nothing more is sent and what runs is cancelled.
LoadResult GenerateLoad(const std::vector<std::shared_ptr<grpc::Channel>>& channels,
                        const LoadOptions& options,
                        const std::function<v1::GenerateRequest(int64_t)>& make_request,
                        const std::function<void(const LoadProgress&)>& on_progress,
                        const std::atomic<bool>& stop);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CTL_BENCH_LOAD_GENERATOR_H_
