// How long a step takes when it costs nothing: from Submit down every rank's stream and back up to
// OnStepDone, in front of instant workers in the same process.
#include <benchmark/benchmark.h>

#include <memory>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "coordinator/cluster/testing/fake_worker.h"
#include "coordinator/cluster/testing/small_cluster.h"

namespace lockstep::coordinator {
namespace {

/// Submits the next step from within OnStepDone, as the engine does, until `steps` are done.
class SteppingObserver final : public GroupObserver {
 public:
  void OnGroupFormed(std::shared_ptr<RankGroup> group) override {
    absl::MutexLock lock(&mutex_);
    group_ = std::move(group);
  }
  void OnStepDone(const v1::StepResult& result) override {
    if (result.step_id() < last_) {
      Submit(result.step_id() + 1);
      return;
    }
    absl::MutexLock lock(&mutex_);
    done_ = true;
  }
  void OnGroupLost(uint64_t /*epoch*/, const absl::Status& /*reason*/) override {}

  void Run(uint64_t steps) {
    absl::MutexLock lock(&mutex_);
    auto formed = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return group_ != nullptr; };
    mutex_.Await(absl::Condition(&formed));
    done_ = false;
    last_ += steps;
    Submit(last_ - steps + 1);
    mutex_.Await(absl::Condition(&done_));
  }

 private:
  void Submit(uint64_t step) {
    v1::StepBatch batch;
    batch.set_epoch(group_->limits().epoch);
    batch.set_step_id(step);
    for (uint64_t sequence = 1; sequence <= 32; ++sequence) {
      v1::SequenceChunk& chunk = *batch.add_chunks();
      chunk.set_sequence_id(sequence);
      chunk.set_first_position(static_cast<uint32_t>(step));
      chunk.set_sample(true);
    }
    group_->Submit(batch);
  }

  absl::Mutex mutex_;
  std::shared_ptr<RankGroup> group_;
  uint64_t last_ = 0;
  bool done_ = false;
};

void BM_StepOf32Sequences(benchmark::State& state) {
  SteppingObserver observer;
  SmallCluster cluster(SmallClusterConfig(static_cast<int>(state.range(0)), 1), &observer);
  std::vector<std::unique_ptr<FakeWorker>> workers;
  for (int i = 0; i < state.range(0); ++i) {
    workers.push_back(std::make_unique<FakeWorker>(
        cluster.Connect(), FakeWorker::Options{.worker_id = std::to_string(i),
                                               .local_index = static_cast<uint32_t>(i),
                                               .keep_batches = false}));
  }
  constexpr uint64_t kSteps = 100;
  for (auto _ : state) observer.Run(kSteps);
  state.SetItemsProcessed(state.iterations() * kSteps);
}
BENCHMARK(BM_StepOf32Sequences)->Arg(1)->Arg(2)->Arg(4)->UseRealTime()->MeasureProcessCPUTime();

}  // namespace
}  // namespace lockstep::coordinator

BENCHMARK_MAIN();
