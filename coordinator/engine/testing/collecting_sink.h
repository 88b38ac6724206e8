// A sink that keeps everything, for tests.
#ifndef LOCKSTEP_COORDINATOR_ENGINE_TESTING_COLLECTING_SINK_H_
#define LOCKSTEP_COORDINATOR_ENGINE_TESTING_COLLECTING_SINK_H_

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "coordinator/engine/engine_request.h"

namespace lockstep::coordinator {

/// Thread-safe.
class CollectingSink final : public RequestSink {
 public:
  SinkVerdict OnUpdate(RequestUpdate update) override ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (outcome_) {
      ++updates_after_outcome_;
      return SinkVerdict::kGoOn;
    }
    if (!update.prompt_logprobs.empty()) prompt_logprobs_ = std::move(update.prompt_logprobs);
    if (update.token_id) tokens_.push_back(*update.token_id);
    if (update.logprob) logprobs_.push_back(*update.logprob);
    outcome_ = std::move(update.outcome);
    return SinkVerdict::kGoOn;
  }

  std::vector<int32_t> tokens() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return tokens_;
  }
  std::vector<float> logprobs() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return logprobs_;
  }
  std::vector<float> prompt_logprobs() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return prompt_logprobs_;
  }
  std::optional<RequestOutcome> outcome() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return outcome_;
  }
  int updates_after_outcome() const ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return updates_after_outcome_;
  }

  /// nullopt if there is none by then.
  std::optional<RequestOutcome> WaitForOutcome(absl::Duration timeout) const
      ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    auto ended = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return outcome_.has_value(); };
    mutex_.AwaitWithTimeout(absl::Condition(&ended), timeout);
    return outcome_;
  }

 private:
  mutable absl::Mutex mutex_;
  std::vector<int32_t> tokens_ ABSL_GUARDED_BY(mutex_);
  std::vector<float> logprobs_ ABSL_GUARDED_BY(mutex_);
  std::vector<float> prompt_logprobs_ ABSL_GUARDED_BY(mutex_);
  std::optional<RequestOutcome> outcome_ ABSL_GUARDED_BY(mutex_);
  int updates_after_outcome_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_ENGINE_TESTING_COLLECTING_SINK_H_
