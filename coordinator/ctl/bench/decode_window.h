// How fast a full batch decodes: the rate while exactly as many requests as the run held at once
// were between their first and their last token, so that neither prefills nor a thinner batch at
// the end of the run count.
#ifndef LOCKSTEP_COORDINATOR_CTL_BENCH_DECODE_WINDOW_H_
#define LOCKSTEP_COORDINATOR_CTL_BENCH_DECODE_WINDOW_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "coordinator/ctl/bench/request_record.h"

namespace lockstep::coordinator {

struct DecodeWindow {
  /// Requests that decoded at once.
  int64_t requests = 0;
  /// Together, over all such spans of the run.
  double seconds = 0;
  /// Tokens of all these requests together, a second.
  double tokens_per_second = 0;
};

/// Looks for the spans in which `requests` of `records` decoded at once. A span's rate is the sum
/// of its requests' own rates, each from its first message in the span to its last: the tokens of
/// one step come apart by some microseconds, and counting all within two instants would cut steps
/// in two. Spans in which a request has fewer than two messages are left out; nullopt when none is
/// left.
std::optional<DecodeWindow> FindDecodeWindow(const std::vector<RequestRecord>& records,
                                             int64_t requests);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CTL_BENCH_DECODE_WINDOW_H_
