// The weights that one rank holds, packed for its products, and the loader that fills them from the
// shard's list of slices. One copy of each weight lies in memory.
#ifndef LOCKSTEP_WORKER_SHARD_WEIGHTS_H_
#define LOCKSTEP_WORKER_SHARD_WEIGHTS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "base/dtype.h"
#include "kernels/product.h"
#include "kernels/thread_pool.h"
#include "model/decoder_spec.h"
#include "model/rank_shard.h"
#include "model/weight_source.h"

namespace lockstep::worker {

/// One layer's part on this rank: `heads` query heads, `kv_heads` KV heads, `ffn` MLP columns.
struct LayerWeights {
  std::vector<float> input_norm;           // [hidden]
  std::vector<float> post_attention_norm;  // [hidden]
  // Query, key and value rows one after the other: [(heads + 2 kv_heads) * head_dim, hidden].
  std::unique_ptr<kernels::PackedMatrix> qkv;
  std::unique_ptr<kernels::PackedMatrix> attention_output;  // [hidden, heads * head_dim]
  std::unique_ptr<kernels::PackedMatrix> gate_up;           // gate over up: [2 ffn, hidden]
  std::unique_ptr<kernels::PackedMatrix> down;              // [hidden, ffn]
};

/// Immutable once loaded.
struct ShardWeights {
  // [vocabulary slice, hidden]; on the first stage, and on the last if the head is tied to it.
  std::unique_ptr<kernels::PackedMatrix> embedding;
  std::vector<LayerWeights> layers;                    // of this stage, in order
  std::vector<float> final_norm;                       // [hidden], last stage
  std::unique_ptr<kernels::PackedMatrix> untied_head;  // [vocabulary slice, hidden], last stage
  int64_t bytes = 0;                                   // of memory, all together

  /// The matrix whose product gives the logits; last stage only.
  const kernels::PackedMatrix& head() const { return untied_head ? *untied_head : *embedding; }
};

/// Called after every matrix, from the loading thread, with bytes of packed weights.
using LoadProgressFn = std::function<void(int64_t loaded_bytes, int64_t total_bytes)>;

/// Loads the shard's slices (model::WeightsOfShard by the default plan) from `source`, matrices in
/// `dtype`, norms in fp32; rows are spread over `pool`. Blocks until done; errors are the source's
/// and the packing's, with the tensor's name. `cancelled` is asked between pieces of about a
/// megabyte; when it says true the result is Aborted.
absl::StatusOr<ShardWeights> LoadShardWeights(const model::DecoderSpec& spec,
                                              const model::RankShard& shard,
                                              const model::WeightSource& source, DType dtype,
                                              kernels::ThreadPool& pool,
                                              const LoadProgressFn& progress,
                                              const std::function<bool()>& cancelled);

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_SHARD_WEIGHTS_H_
