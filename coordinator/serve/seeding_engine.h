// --seed: requests that bring no seed get theirs from one sequence, so that a server that is
// started again and asked the same in the same order answers the same.
#ifndef LOCKSTEP_COORDINATOR_SERVE_SEEDING_ENGINE_H_
#define LOCKSTEP_COORDINATOR_SERVE_SEEDING_ENGINE_H_

#include <cstdint>
#include <memory>
#include <random>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "coordinator/engine/engine.h"

namespace lockstep::coordinator {

/// In front of an engine, which must outlive it. Thread-safe.
class SeedingEngine final : public Engine {
 public:
  SeedingEngine(uint64_t seed, Engine& engine) : engine_(engine), seeds_(seed) {}

  absl::StatusOr<RequestId> Submit(EngineRequest request,
                                   std::shared_ptr<RequestSink> sink) override {
    if (!request.sampling.has_seed()) request.sampling.set_seed(NextSeed());
    return engine_.Submit(std::move(request), std::move(sink));
  }
  void Cancel(RequestId id) override { engine_.Cancel(id); }
  void AwaitDelivery(RequestId id) override { engine_.AwaitDelivery(id); }
  EngineStats Stats() const override { return engine_.Stats(); }

 private:
  uint64_t NextSeed() {
    absl::MutexLock lock(&mutex_);
    return seeds_();
  }

  Engine& engine_;
  absl::Mutex mutex_;
  std::mt19937_64 seeds_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_SERVE_SEEDING_ENGINE_H_
