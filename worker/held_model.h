// The weights that this process holds, kept from epoch to epoch.
#ifndef LOCKSTEP_WORKER_HELD_MODEL_H_
#define LOCKSTEP_WORKER_HELD_MODEL_H_

#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "kernels/thread_pool.h"
#include "model/decoder_spec.h"
#include "model/rank_shard.h"
#include "proto/lockstep/v1/cluster.pb.h"
#include "worker/shard_weights.h"

namespace lockstep::worker {

/// At most one shard at a time. Belongs to the compute thread.
class HeldModel {
 public:
  /// Makes weights() those of the shard. Loads them, freeing what was held before, unless the very
  /// same are held: same assignment of model and shard, and files of the same names, sizes and
  /// modification times. Sets `loaded` accordingly. Blocks. After an error nothing is held.
  absl::Status Ensure(const v1::ModelAssignment& model, const model::DecoderSpec& spec,
                      const model::RankShard& shard, DType dtype, kernels::ThreadPool& pool,
                      const LoadProgressFn& progress, const std::function<bool()>& cancelled,
                      bool& loaded);

  /// After Ensure.
  const ShardWeights& weights() const { return *weights_; }

 private:
  std::string fingerprint_;
  std::optional<ShardWeights> weights_;
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_HELD_MODEL_H_
