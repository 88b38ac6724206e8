// A whole TP x PP group as threads of this process, without RPC: what benchmarks of the bare
// forward loop and tests of the worker drive.
#ifndef LOCKSTEP_WORKER_LOCAL_CLUSTER_H_
#define LOCKSTEP_WORKER_LOCAL_CLUSTER_H_

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/dtype.h"
#include "model/decoder_spec.h"
#include "model/weight_source.h"
#include "proto/lockstep/v1/cluster.pb.h"
#include "worker/compute_thread.h"
#include "worker/progress.h"
#include "worker/rank_groups.h"
#include "worker/sequence_table.h"
#include "worker/shard_weights.h"
#include "worker/step_runner.h"

namespace lockstep::worker {

struct LocalClusterOptions {
  model::DecoderSpec spec;
  int tp_size = 1;
  int pp_size = 1;
  DType dtype = DType::kBF16;
  SequenceLimits limits;                        // vocab_size is taken from spec
  v1::Transport transport = v1::TRANSPORT_SHM;  // of groups of more than one
  // By rank (pp_stage * tp_size + tp_rank): the processors to pin one compute thread each to. A
  // rank without an entry gets `threads` unpinned ones.
  std::vector<std::vector<int>> cpus;
  int threads = 1;
};

/// Ranks wait for each other only in their collectives, as processes do. Used by one thread.
class LocalCluster {
 public:
  /// Connects, loads and allocates on all ranks; `source` is needed only meanwhile.
  static absl::StatusOr<std::unique_ptr<LocalCluster>> Create(const LocalClusterOptions& options,
                                                              const model::WeightSource& source);
  /// Aborts what is under way.
  ~LocalCluster();

  /// Gives the batch to all ranks; does not block.
  void Submit(const v1::StepBatch& batch);
  /// Blocks until all ranks have answered the oldest batch that Next has not yet returned. The
  /// reporting rank's result; the first error of any rank; Internal when digests differ.
  absl::StatusOr<v1::StepResult> Next();
  /// Submit, then Next.
  absl::StatusOr<v1::StepResult> Run(const v1::StepBatch& batch);

  /// Bytes of weights that rank `rank` holds.
  int64_t weight_bytes(int rank) const { return ranks_[rank]->weights.bytes; }

 private:
  struct Rank {
    std::unique_ptr<RankGroupsSetup> setup;
    Progress progress;
    ShardWeights weights;
    std::unique_ptr<StepRunner> runner;
    std::deque<absl::StatusOr<v1::StepResult>> results;  // guarded by mutex_
    std::unique_ptr<ComputeThread> thread;               // last: ends before what it uses
  };

  explicit LocalCluster(const LocalClusterOptions& options) : options_(options) {}
  absl::Status Form(const model::WeightSource& source);
  absl::Status FormRank(int rank, const v1::CollectivePeers& peers,
                        const model::WeightSource& source, ComputeState& state);
  void AbortAll(const std::string& reason);

  const LocalClusterOptions options_;
  std::mutex mutex_;
  std::condition_variable answered_;
  std::vector<std::unique_ptr<Rank>> ranks_;
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_LOCAL_CLUSTER_H_
