// The first failure of a communicator, kept for good: an operation that fails or an Abort raises
// it, and every later operation returns it.
#ifndef LOCKSTEP_WORKER_COLLECTIVE_FAILURE_LATCH_H_
#define LOCKSTEP_WORKER_COLLECTIVE_FAILURE_LATCH_H_

#include <atomic>
#include <string_view>

#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

namespace lockstep::worker {

/// Starts as OK and can be raised once. Thread-safe; `raised()` costs one load and is meant for
/// loops that wait. A thread that sees raised() also sees everything the raiser wrote before.
class FailureLatch {
 public:
  bool raised() const { return raised_.load(std::memory_order_acquire); }

  /// OK until raised.
  absl::Status status() const;

  /// Keeps `failure`, which must not be OK, unless one is kept already; returns the kept one.
  absl::Status Raise(absl::Status failure);
  /// Raises Aborted with `reason`.
  void RaiseAborted(std::string_view reason);

 private:
  mutable absl::Mutex mutex_;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  std::atomic<bool> raised_{false};
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_COLLECTIVE_FAILURE_LATCH_H_
