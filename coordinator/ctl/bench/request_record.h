// What is kept of one request of a benchmark: when it was sent, when its tokens came, how it ended.
#ifndef LOCKSTEP_COORDINATOR_CTL_BENCH_REQUEST_RECORD_H_
#define LOCKSTEP_COORDINATOR_CTL_BENCH_REQUEST_RECORD_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"

namespace lockstep::coordinator {

/// One message with tokens. Times are nanoseconds since the start of the run.
struct TokenArrival {
  int64_t at_ns = 0;
  int32_t tokens = 0;
};

struct RequestRecord {
  int64_t sent_ns = 0;
  int64_t done_ns = 0;
  /// In order of time; messages without a token are left out.
  std::vector<TokenArrival> arrivals;
  /// As the server counted them; 0 when it refused the request.
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;
  absl::Status status;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CTL_BENCH_REQUEST_RECORD_H_
