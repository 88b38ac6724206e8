// What goes into the engine and what comes out: a checked request, and the sink that its tokens are
// delivered to. Everything here is plain data; nothing knows gRPC services or text.
#ifndef LOCKSTEP_COORDINATOR_ENGINE_ENGINE_REQUEST_H_
#define LOCKSTEP_COORDINATOR_ENGINE_ENGINE_REQUEST_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "proto/lockstep/v1/inference.pb.h"

namespace lockstep::coordinator {

/// Names a request inside one Engine; ascending in the order of arrival, never used again.
enum class RequestId : uint64_t {};

/// A request after all checks, with every default applied.
struct EngineRequest {
  std::vector<int32_t> prompt;          // at least one token
  v1::SamplingParams sampling;          // every field set; without a seed the engine draws one
  int64_t max_tokens = 0;               // to generate, at least 1
  std::vector<int32_t> stop_token_ids;  // any of them ends the output; empty to ignore end tokens
  bool logprobs = false;
  bool prompt_logprobs = false;
  absl::Time deadline = absl::InfiniteFuture();
};

/// How a request ended.
struct RequestOutcome {
  absl::Status status;  // OK, Cancelled, DeadlineExceeded, or why the engine gave it up
  v1::FinishReason reason = v1::FINISH_REASON_UNSPECIFIED;  // set if the status is OK
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  uint64_t seed = 0;  // that was used
  // From arrival, in microseconds; 0 for what did not come to pass.
  int64_t queue_us = 0;
  int64_t first_token_us = 0;
  int64_t total_us = 0;
};

/// What one step, or the end, brings a request.
struct RequestUpdate {
  // Of prompt tokens 1, 2, ...; all at once, with or before the first token, if asked for.
  std::vector<float> prompt_logprobs;
  std::optional<int32_t> token_id;
  std::optional<float> logprob;  // of token_id, if asked for
  std::optional<RequestOutcome> outcome;
};

/// Receives one request's updates, in order, then exactly one with an outcome.
class RequestSink {
 public:
  virtual ~RequestSink() = default;
  /// Must not block, and must not call the engine. Called from the cluster's thread after the next
  /// step has been sent off; the outcome of a cancelled, expired or given up request comes from the
  /// thread that ended it, and then one more update may be under way: ignore all after the outcome.
  virtual void OnUpdate(RequestUpdate update) = 0;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_ENGINE_ENGINE_REQUEST_H_
