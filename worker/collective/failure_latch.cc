// See failure_latch.h.
#include "worker/collective/failure_latch.h"

#include <utility>

namespace lockstep::worker {

absl::Status FailureLatch::status() const {
  absl::MutexLock lock(&mutex_);
  return failure_;
}

absl::Status FailureLatch::Raise(absl::Status failure) {
  absl::MutexLock lock(&mutex_);
  if (failure_.ok()) failure_ = std::move(failure);
  raised_.store(true, std::memory_order_release);
  return failure_;
}

void FailureLatch::RaiseAborted(std::string_view reason) {
  // The first failure stays, which may be another one.
  Raise(absl::AbortedError(absl::string_view(reason.data(), reason.size()))).IgnoreError();
}

}  // namespace lockstep::worker
