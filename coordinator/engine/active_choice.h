// One choice of a request inside the engine: its tokens, and what the workers hold of it.
#ifndef LOCKSTEP_COORDINATOR_ENGINE_ACTIVE_CHOICE_H_
#define LOCKSTEP_COORDINATOR_ENGINE_ACTIVE_CHOICE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/engine/engine_request.h"
#include "coordinator/engine/prefix_cache.h"
#include "coordinator/engine/scheduler.h"
#include "proto/lockstep/v1/cluster.pb.h"

namespace lockstep::coordinator {

/// What all choices of a request share.
struct SubmittedRequest {
  RequestId id{};
  EngineRequest request;  // with its seed
  std::shared_ptr<RequestSink> sink;
  absl::Time arrival;
  PrefixId prefix_root = PrefixId::kRoot;  // where its tokens are looked for and published

  int64_t prompt_tokens() const { return static_cast<int64_t>(request.prompt.size()); }
};

/// The place of a choice in every queue: the smaller is served first.
struct QueueRank {
  int32_t priority = 0;
  RequestId id{};
  int choice = 0;
  friend bool operator<(const QueueRank& a, const QueueRank& b) {
    return std::tie(a.priority, a.id, a.choice) < std::tie(b.priority, b.id, b.choice);
  }
};

/// Waits (no sequence) or runs (a sequence with blocks); may go back and forth. Not thread-safe:
/// guarded by the engine's mutex.
class ActiveChoice {
 public:
  ActiveChoice(std::shared_ptr<const SubmittedRequest> request, int choice);

  const SubmittedRequest& request() const { return *request_; }
  int choice() const { return choice_; }
  QueueRank rank() const { return {request_->request.priority, request_->id, choice_}; }

  /// The sequence on the workers; nullopt while it waits.
  std::optional<uint64_t> sequence_id() const { return sequence_id_; }
  std::span<const int32_t> blocks() const { return blocks_; }

  /// The cached blocks that it would begin with: never all of its tokens, and none while it is to
  /// report on its prompt.
  CachedPrefix FindPrefix(const PrefixCache& cache) const;
  /// Whether the prompt's full blocks, but for the one of its last token, have been published.
  bool has_published_prompt() const;

  /// Waiting -> running, behind the tokens of `prefix`, whose blocks it holds from now on.
  /// Describes the new sequence to the workers.
  void Start(uint64_t sequence_id, const CachedPrefix& prefix, absl::Time now,
             v1::NewSequence& message);
  /// Running -> waiting, with the tokens so far; those under way are forgotten.
  void Stop();

  WaitingSequence waiting_view(const CachedPrefix& prefix) const;
  /// own_blocks is the caller's to fill.
  RunningSequence running_view() const;

  /// Hands out the rows of `plan` and describes them to the workers.
  void AddChunk(const ScheduledChunk& plan, std::span<const int32_t> new_blocks, uint64_t step_id,
                v1::SequenceChunk& message);
  /// Rows handed out so far.
  int64_t rows() const { return rows_; }

  /// The workers have computed the first `rows` rows: publishes the blocks that are full.
  void Confirm(int64_t rows, PrefixCache& cache);
  void TakePromptLogprobs(const v1::PromptLogprobs& message);
  /// A token that step `step_id` sampled; the reason to end, if it is one. Fills `update`.
  std::optional<v1::FinishReason> TakeToken(const v1::SampledToken& token, uint64_t step_id,
                                            absl::Time now, RequestUpdate& update);

  /// The step that the last token came from, of the sequence that runs; 0 for none.
  uint64_t last_answered_step() const { return last_answered_step_; }

  RequestOutcome MakeOutcome(absl::Status status, v1::FinishReason reason, absl::Time now) const;

 private:
  int64_t generated_tokens() const {
    return static_cast<int64_t>(tokens_.size()) - request_->prompt_tokens();
  }
  bool wants_prompt_logprobs() const {
    return choice_ == 0 && request_->request.prompt_logprobs && !prompt_logprobs_delivered_;
  }
  void DescribeSharedBlocks(const CachedPrefix& prefix, v1::NewSequence& message) const;

  const std::shared_ptr<const SubmittedRequest> request_;
  const int choice_;
  std::vector<int32_t> tokens_;  // the prompt, then what was generated
  std::optional<int32_t> stop_token_id_;
  std::vector<float> prompt_logprobs_;
  std::vector<v1::TokenAlternatives> prompt_alternatives_;
  bool prompt_logprobs_delivered_ = false;

  std::optional<absl::Time> admitted_;
  std::optional<absl::Time> first_token_;
  int64_t cached_tokens_ = 0;  // of the prompt, at the first admission

  std::optional<uint64_t> sequence_id_;
  std::vector<int32_t> blocks_;
  int64_t rows_ = 0;
  int64_t prefill_rows_ = 0;
  // The first blocks that are in the prefix cache, or have a twin there, and what they stand for.
  int64_t published_blocks_ = 0;
  PrefixId published_prefix_ = PrefixId::kRoot;
  int samples_under_way_ = 0;
  uint64_t last_sample_step_ = 0;
  uint64_t last_answered_step_ = 0;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_ENGINE_ACTIVE_CHOICE_H_
