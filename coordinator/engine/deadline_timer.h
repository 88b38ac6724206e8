// One thread that calls back when the earliest of the times that it was told has come.
#ifndef LOCKSTEP_COORDINATOR_ENGINE_DEADLINE_TIMER_H_
#define LOCKSTEP_COORDINATOR_ENGINE_DEADLINE_TIMER_H_

#include <functional>
#include <thread>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace lockstep::coordinator {

/// Thread-safe. `on_due` runs on the timer's own thread, without any lock of its.
class DeadlineTimer {
 public:
  explicit DeadlineTimer(std::function<void()> on_due);
  /// Waits for a call of `on_due` that is under way.
  ~DeadlineTimer();
  DeadlineTimer(const DeadlineTimer&) = delete;
  DeadlineTimer& operator=(const DeadlineTimer&) = delete;

  /// `on_due` is called once, soon after `when`, or after an earlier time of another call: it is to
  /// see for itself what is due and to arm again for what is not.
  void Arm(absl::Time when) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Run() ABSL_LOCKS_EXCLUDED(mutex_);

  const std::function<void()> on_due_;
  absl::Mutex mutex_;
  absl::CondVar changed_;
  absl::Time next_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_ENGINE_DEADLINE_TIMER_H_
