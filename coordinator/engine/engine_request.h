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
  int choices = 1;                      // outputs that share the prompt's prefill
  // Log-probabilities wanted, with so many alternatives each; nullopt: none.
  std::optional<int> logprobs;
  std::optional<int> prompt_logprobs;
  int32_t priority = 0;  // lower first; among equals the older
  absl::Time deadline = absl::InfiniteFuture();
};

/// How a choice of a request ended.
struct RequestOutcome {
  absl::Status status;  // OK, Cancelled, DeadlineExceeded, or why the engine gave it up
  v1::FinishReason reason = v1::FINISH_REASON_UNSPECIFIED;  // set if the status is OK
  std::optional<int32_t> stop_token_id;                     // the last token, if it ended it
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  // of the prompt, found in the prefix cache
  int64_t completion_tokens = 0;
  uint64_t seed = 0;  // that was used
  // From arrival, in microseconds; 0 for what did not come to pass.
  int64_t queue_us = 0;
  int64_t first_token_us = 0;
  int64_t total_us = 0;
};

/// What one step, or the end, brings a choice of a request.
struct RequestUpdate {
  int choice = 0;
  // Of prompt tokens 1, 2, ...; all at once, with or before choice 0's first token, if asked for.
  std::vector<float> prompt_logprobs;
  std::vector<v1::TokenAlternatives> prompt_alternatives;  // one each, if asked for
  std::optional<int32_t> token_id;
  std::optional<float> logprob;                       // of token_id, if asked for
  std::optional<v1::TokenAlternatives> alternatives;  // to token_id, if asked for
  std::optional<RequestOutcome> outcome;
};

/// What a sink wants after an update: kStop ends the choice, as when a stop string was found. Its
/// outcome, with FINISH_REASON_STOP and the tokens up to this update, comes as one more update.
enum class SinkVerdict { kGoOn, kStop };

/// Receives one request's updates: those of each choice in order, then exactly one with its
/// outcome.
class RequestSink {
 public:
  virtual ~RequestSink() = default;
  /// Must not block, and must not call the engine. Called from the cluster's thread after the next
  /// step has been sent off; the outcome of a cancelled, expired or given up request comes from the
  /// thread that ended it, and then one more update may be under way: ignore all after the
  /// choice's outcome.
  virtual SinkVerdict OnUpdate(RequestUpdate update) = 0;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_ENGINE_ENGINE_REQUEST_H_
