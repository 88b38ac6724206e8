// What the rank is doing, written by the compute thread and read by the heartbeat thread, which
// compute cannot block: so that busy, waiting, hung and dead look different.
#ifndef LOCKSTEP_WORKER_PROGRESS_H_
#define LOCKSTEP_WORKER_PROGRESS_H_

#include <atomic>
#include <cstdint>

namespace lockstep::worker {

enum class Phase : uint32_t { kIdle, kLoading, kConnecting, kComputing, kWaitingForPeer };

/// A sequence lock: one writer never waits, any number of readers retry while it writes. Every
/// write counts as forward progress.
class Progress {
 public:
  struct Snapshot {
    uint64_t epoch = 0;
    uint64_t step_id = 0;  // under way or, when idle, the last one done
    Phase phase = Phase::kIdle;
    int64_t age_ns = 0;  // since the last write
  };

  /// Writer: one thread at a time.
  void StartEpoch(uint64_t epoch);
  void StartStep(uint64_t step_id);
  void Enter(Phase phase);
  void Touch();
  /// The writer's own view.
  Phase phase() const { return phase_.load(std::memory_order_relaxed); }

  /// Any thread.
  Snapshot Read() const;

 private:
  template <typename Change>
  void Write(const Change& change);

  std::atomic<uint64_t> version_{0};  // odd while a write is under way
  std::atomic<uint64_t> epoch_{0};
  std::atomic<uint64_t> step_id_{0};
  std::atomic<Phase> phase_{Phase::kIdle};
  std::atomic<int64_t> written_ns_{0};
};

/// Nanoseconds of the steady clock.
int64_t SteadyNowNs();

/// Enters a phase and, at the end of the scope, the one before it.
class PhaseScope {
 public:
  PhaseScope(Progress& progress, Phase phase) : progress_(progress), before_(progress.phase()) {
    progress_.Enter(phase);
  }
  ~PhaseScope() { progress_.Enter(before_); }
  PhaseScope(const PhaseScope&) = delete;
  PhaseScope& operator=(const PhaseScope&) = delete;

 private:
  Progress& progress_;
  const Phase before_;
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_PROGRESS_H_
