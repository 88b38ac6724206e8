// One workerd process per rank, formed into a tensor-parallel group by a real coordinator's cluster
// in the test's own process, which then composes the batches by hand.
#ifndef LOCKSTEP_TESTS_SAMPLING_SHARD_PROCESSES_H_
#define LOCKSTEP_TESTS_SAMPLING_SHARD_PROCESSES_H_

#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "coordinator/cluster/testing/small_cluster.h"
#include "coordinator/ctl/child_process.h"
#include "coordinator/engine/rank_group.h"
#include "proto/lockstep/v1/cluster.pb.h"

namespace lockstep::tests {

struct ShardProcessesOptions {
  int tp = 1;
  std::string config_json;
  std::filesystem::path model_directory;
  std::string workerd;  // the program's path
  int64_t max_sequences = 1;
  int64_t max_batch_tokens = 1;
};

/// Computes in fp32. For one thread. The processes end with it.
class ShardProcesses {
 public:
  /// DeadlineExceeded, with the end of a worker's log, when the group does not form in three
  /// minutes.
  static absl::StatusOr<std::unique_ptr<ShardProcesses>> Start(
      const ShardProcessesOptions& options);

  /// Sends the batch, numbered; does not block.
  void Submit(v1::StepBatch batch);
  /// The answer to the oldest batch that Next has not yet returned.
  absl::StatusOr<v1::StepResult> Next();

 private:
  /// Keeps what the cluster says until somebody asks.
  class Observer final : public coordinator::GroupObserver {
   public:
    void OnGroupFormed(std::shared_ptr<coordinator::RankGroup> group) override;
    void OnStepDone(const v1::StepResult& result) override;
    void OnGroupLost(uint64_t epoch, const absl::Status& reason) override;
    std::shared_ptr<coordinator::RankGroup> AwaitGroup();
    absl::StatusOr<v1::StepResult> AwaitResult();

   private:
    absl::Mutex mutex_;
    std::shared_ptr<coordinator::RankGroup> group_ ABSL_GUARDED_BY(mutex_);
    std::deque<v1::StepResult> results_ ABSL_GUARDED_BY(mutex_);
    absl::Status lost_ ABSL_GUARDED_BY(mutex_);
  };

  explicit ShardProcesses(coordinator::ClusterConfig config)
      : cluster_(std::move(config), &observer_) {}

  Observer observer_;
  coordinator::SmallCluster cluster_;
  std::vector<coordinator::ChildProcess> workers_;
  std::shared_ptr<coordinator::RankGroup> group_;
  uint64_t step_id_ = 0;
};

}  // namespace lockstep::tests

#endif  // LOCKSTEP_TESTS_SAMPLING_SHARD_PROCESSES_H_
