// A condition variable with a deadline, and a thread that waits on it.
#include "coordinator/engine/deadline_timer.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"

namespace lockstep::coordinator {

DeadlineTimer::DeadlineTimer(std::function<void()> on_due)
    : on_due_(std::move(on_due)), thread_([this] { Run(); }) {}

DeadlineTimer::~DeadlineTimer() {
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
    changed_.Signal();
  }
  thread_.join();
}

void DeadlineTimer::Arm(absl::Time when) {
  absl::MutexLock lock(&mutex_);
  if (when >= next_) return;
  next_ = when;
  changed_.Signal();
}

void DeadlineTimer::Run() {
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      while (!stop_ && absl::Now() < next_) changed_.WaitWithDeadline(&mutex_, next_);
      if (stop_) return;
      next_ = absl::InfiniteFuture();
    }
    on_due_();
  }
}

}  // namespace lockstep::coordinator
