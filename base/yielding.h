// Waiting by giving the processor away: quick to notice, without sleeping.
#ifndef LOCKSTEP_BASE_YIELDING_H_
#define LOCKSTEP_BASE_YIELDING_H_

#include <sched.h>

#include <chrono>

namespace lockstep {

/// How long to yield before one sleeps. Waking a sleeper costs an interrupt between cores, which a
/// virtual machine pays with an exit: in a decode step of two threads that was an eighth of the
/// time.
inline constexpr std::chrono::milliseconds kYieldBeforeSleep{1};

/// Yields until `ready()`, for kYieldBeforeSleep at most, and no longer once a yield shows that
/// somebody else computes on this core: then whoever waits should sleep. Returns whether it is
/// ready.
template <typename Ready>
bool YieldUntil(Ready ready) {
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::microseconds kQuickYield{20};
  Clock::time_point now = Clock::now();
  const Clock::time_point end = now + kYieldBeforeSleep;
  while (true) {
    const Clock::time_point before = now;
    sched_yield();
    if (ready()) return true;
    now = Clock::now();
    if (now >= end || now - before > kQuickYield) return false;
  }
}

}  // namespace lockstep

#endif  // LOCKSTEP_BASE_YIELDING_H_
