// One rank's whole step: apply the batch, run the stage's layers, sample, answer. No RPC: the
// executor feeds it from a stream, benchmarks and tests call it directly.
#ifndef LOCKSTEP_WORKER_STEP_RUNNER_H_
#define LOCKSTEP_WORKER_STEP_RUNNER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/dtype.h"
#include "kernels/thread_pool.h"
#include "model/decoder_spec.h"
#include "model/rank_shard.h"
#include "proto/lockstep/v1/cluster.pb.h"
#include "worker/decoder.h"
#include "worker/kv_pool.h"
#include "worker/rank_groups.h"
#include "worker/sampler.h"
#include "worker/sequence_table.h"
#include "worker/shard_weights.h"
#include "worker/token_return.h"

namespace lockstep::worker {

struct StepRunnerOptions {
  model::DecoderSpec spec;
  model::RankShard shard;
  DType dtype = DType::kBF16;  // of keys and values
  SequenceLimits limits;
};

/// Holds the rank's state of one epoch. Borrows weights, groups and pool. Everything but
/// construction happens on the compute thread; the first error ends the epoch.
class StepRunner {
 public:
  /// `checkpoint`: see Decoder. ResourceExhausted when the KV pool or the activations find no
  /// memory.
  static absl::StatusOr<std::unique_ptr<StepRunner>> Create(const StepRunnerOptions& options,
                                                            const ShardWeights& weights,
                                                            RankGroups& groups,
                                                            kernels::ThreadPool& pool,
                                                            CheckpointFn checkpoint);

  /// Runs one batch and blocks until this rank's part is done. The result has all fields but the
  /// times; tokens and log-probabilities only on the first rank of the last stage. Errors:
  /// SequenceTable::Apply's, the collectives', the sampler's.
  absl::StatusOr<v1::StepResult> Run(const v1::StepBatch& batch);

  int64_t kv_bytes() const { return kv_.bytes(); }

 private:
  StepRunner(const StepRunnerOptions& options, RankGroups& groups, kernels::ThreadPool& pool,
             CheckpointFn checkpoint, KvPool kv);

  /// `read`: the rows that logits are wanted of, ascending.
  absl::Status Forward(const Step& step, std::span<const int64_t> read);
  absl::StatusOr<std::vector<Choice>> ChooseTokens(const Step& step, std::span<const int64_t> read);
  void Report(const Step& step, std::span<const Choice> choices, v1::StepResult& result) const;

  const StepRunnerOptions options_;
  RankGroups& groups_;
  const CheckpointFn checkpoint_;
  KvPool kv_;
  SequenceTable table_;
  TokenReturn token_return_;
  Sampler sampler_;
  std::unique_ptr<Decoder> decoder_;
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_STEP_RUNNER_H_
