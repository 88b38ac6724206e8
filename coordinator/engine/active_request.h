// One request inside the engine: its tokens, and what the workers hold of it.
#ifndef LOCKSTEP_COORDINATOR_ENGINE_ACTIVE_REQUEST_H_
#define LOCKSTEP_COORDINATOR_ENGINE_ACTIVE_REQUEST_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/engine/engine_request.h"
#include "coordinator/engine/scheduler.h"
#include "proto/lockstep/v1/cluster.pb.h"

namespace lockstep::coordinator {

/// Waits (no sequence) or runs (a sequence with blocks); may go back and forth. Not thread-safe:
/// guarded by the engine's mutex.
class ActiveRequest {
 public:
  /// The seed must be set.
  ActiveRequest(RequestId id, EngineRequest request, std::shared_ptr<RequestSink> sink,
                absl::Time arrival);

  RequestId id() const { return id_; }
  /// Without its prompt, which is among the tokens.
  const EngineRequest& request() const { return request_; }
  const std::shared_ptr<RequestSink>& sink() const { return sink_; }
  int64_t prompt_tokens() const { return prompt_tokens_; }
  /// Whether it has ever been admitted.
  bool started() const { return admitted_.has_value(); }

  /// The sequence on the workers; nullopt while it waits.
  std::optional<uint64_t> sequence_id() const { return sequence_id_; }
  std::span<const int32_t> blocks() const { return blocks_; }

  /// Waiting -> running. Describes the new sequence to the workers.
  void Start(uint64_t sequence_id, absl::Time now, v1::NewSequence& message);
  /// Running -> waiting, with the tokens so far; those under way are forgotten.
  void Stop();

  WaitingSequence waiting_view() const;
  RunningSequence running_view() const;

  /// Hands out the rows of `plan` and describes them to the workers.
  void AddChunk(const ScheduledChunk& plan, std::span<const int32_t> new_blocks, uint64_t step_id,
                v1::SequenceChunk& message);

  void TakePromptLogprobs(const v1::PromptLogprobs& message);

  /// A token that step `step_id` sampled; the reason to end, if it is one. Fills `update`.
  std::optional<v1::FinishReason> TakeToken(const v1::SampledToken& token, uint64_t step_id,
                                            absl::Time now, RequestUpdate& update);

  /// The step that the last token came from, of the sequence that runs; 0 for none.
  uint64_t last_answered_step() const { return last_answered_step_; }

  RequestOutcome MakeOutcome(absl::Status status, v1::FinishReason reason, absl::Time now) const;

 private:
  int64_t generated_tokens() const { return static_cast<int64_t>(tokens_.size()) - prompt_tokens_; }
  bool wants_prompt_logprobs() const {
    return request_.prompt_logprobs && !prompt_logprobs_delivered_;
  }

  const RequestId id_;
  EngineRequest request_;  // the prompt moved to tokens_
  const std::shared_ptr<RequestSink> sink_;
  const int64_t prompt_tokens_;
  std::vector<int32_t> tokens_;  // the prompt, then what was generated
  std::vector<float> prompt_logprobs_;
  bool prompt_logprobs_delivered_ = false;

  const absl::Time arrival_;
  std::optional<absl::Time> admitted_;
  std::optional<absl::Time> first_token_;

  std::optional<uint64_t> sequence_id_;
  std::vector<int32_t> blocks_;
  int64_t rows_ = 0;
  int64_t prefill_rows_ = 0;
  int samples_under_way_ = 0;
  uint64_t last_sample_step_ = 0;
  uint64_t last_answered_step_ = 0;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_ENGINE_ACTIVE_REQUEST_H_
