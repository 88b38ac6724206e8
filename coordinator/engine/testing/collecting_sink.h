// A sink that keeps everything, for tests.
#ifndef LOCKSTEP_COORDINATOR_ENGINE_TESTING_COLLECTING_SINK_H_
#define LOCKSTEP_COORDINATOR_ENGINE_TESTING_COLLECTING_SINK_H_

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "coordinator/engine/engine_request.h"

namespace lockstep::coordinator {

/// Thread-safe. What it says of a choice never heard of is empty.
class CollectingSink final : public RequestSink {
 public:
  /// Asks for the end of a choice when it has got this token; nullopt: never.
  explicit CollectingSink(std::optional<int32_t> last_token = std::nullopt)
      : last_token_(last_token) {}

  SinkVerdict OnUpdate(RequestUpdate update) override ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    Choice& choice = choices_[update.choice];
    if (choice.outcome) {
      ++updates_after_outcome_;
      return SinkVerdict::kGoOn;
    }
    if (!update.prompt_logprobs.empty()) prompt_logprobs_ = std::move(update.prompt_logprobs);
    if (!update.prompt_alternatives.empty()) {
      prompt_alternatives_ = std::move(update.prompt_alternatives);
    }
    if (update.token_id) choice.tokens.push_back(*update.token_id);
    if (update.logprob) choice.logprobs.push_back(*update.logprob);
    if (update.alternatives) choice.alternatives.push_back(*std::move(update.alternatives));
    choice.outcome = std::move(update.outcome);
    return last_token_ && update.token_id == last_token_ ? SinkVerdict::kStop : SinkVerdict::kGoOn;
  }

  std::vector<int32_t> tokens(int choice = 0) const { return Find(choice).tokens; }
  std::vector<float> logprobs(int choice = 0) const { return Find(choice).logprobs; }
  std::vector<v1::TokenAlternatives> alternatives(int choice = 0) const {
    return Find(choice).alternatives;
  }
  std::optional<RequestOutcome> outcome(int choice = 0) const { return Find(choice).outcome; }
  std::vector<float> prompt_logprobs() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return prompt_logprobs_;
  }
  std::vector<v1::TokenAlternatives> prompt_alternatives() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return prompt_alternatives_;
  }
  int updates_after_outcome() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return updates_after_outcome_;
  }

  /// Of choice 0; nullopt if there is none by then.
  std::optional<RequestOutcome> WaitForOutcome(absl::Duration timeout) const
      ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    auto ended = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      auto choice = choices_.find(0);
      return choice != choices_.end() && choice->second.outcome.has_value();
    };
    mutex_.AwaitWithTimeout(absl::Condition(&ended), timeout);
    auto choice = choices_.find(0);
    return choice == choices_.end() ? std::nullopt : choice->second.outcome;
  }

 private:
  struct Choice {
    std::vector<int32_t> tokens;
    std::vector<float> logprobs;
    std::vector<v1::TokenAlternatives> alternatives;
    std::optional<RequestOutcome> outcome;
  };

  Choice Find(int choice) const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    auto found = choices_.find(choice);
    return found == choices_.end() ? Choice() : found->second;
  }

  const std::optional<int32_t> last_token_;
  mutable absl::Mutex mutex_;
  std::map<int, Choice> choices_ ABSL_GUARDED_BY(mutex_);
  std::vector<float> prompt_logprobs_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::TokenAlternatives> prompt_alternatives_ ABSL_GUARDED_BY(mutex_);
  int updates_after_outcome_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_ENGINE_TESTING_COLLECTING_SINK_H_
