// The sequence lock of Progress (Boehm, "Can seqlocks get along with programming language memory
// models?", 2012: atomic fields, fences around them).
#include "worker/progress.h"

#include <chrono>

namespace lockstep::worker {

int64_t SteadyNowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

template <typename Change>
void Progress::Write(const Change& change) {
  uint64_t version = version_.load(std::memory_order_relaxed);
  version_.store(version + 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  change();
  written_ns_.store(SteadyNowNs(), std::memory_order_relaxed);
  version_.store(version + 2, std::memory_order_release);
}

void Progress::StartEpoch(uint64_t epoch) {
  Write([&] {
    epoch_.store(epoch, std::memory_order_relaxed);
    step_id_.store(0, std::memory_order_relaxed);
  });
}

void Progress::StartStep(uint64_t step_id) {
  Write([&] {
    step_id_.store(step_id, std::memory_order_relaxed);
    phase_.store(Phase::kComputing, std::memory_order_relaxed);
  });
}

void Progress::Enter(Phase phase) {
  Write([&] { phase_.store(phase, std::memory_order_relaxed); });
}

void Progress::Touch() {
  Write([] {});
}

Progress::Snapshot Progress::Read() const {
  while (true) {
    uint64_t before = version_.load(std::memory_order_acquire);
    Snapshot snapshot{epoch_.load(std::memory_order_relaxed),
                      step_id_.load(std::memory_order_relaxed),
                      phase_.load(std::memory_order_relaxed), 0};
    int64_t written_ns = written_ns_.load(std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_acquire);
    uint64_t after = version_.load(std::memory_order_relaxed);
    if (before != after || before % 2 != 0) continue;
    snapshot.age_ns = written_ns == 0 ? 0 : SteadyNowNs() - written_ns;
    return snapshot;
  }
}

}  // namespace lockstep::worker
