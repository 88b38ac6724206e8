// One decoder forward for every architecture: the description says how many layers, heads and
// columns there are, and a layer is a flat list of named steps.
#ifndef LOCKSTEP_WORKER_DECODER_H_
#define LOCKSTEP_WORKER_DECODER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/attention.h"
#include "kernels/memory.h"
#include "kernels/tensor.h"
#include "kernels/thread_pool.h"
#include "model/decoder_spec.h"
#include "model/rank_shard.h"
#include "worker/collective/collective.h"
#include "worker/kv_pool.h"
#include "worker/shard_weights.h"

namespace lockstep::worker {

/// Called between pieces of work: tells that there is progress, and may ask to stop.
using CheckpointFn = std::function<absl::Status()>;

/// The forward pass of one stage's layers on one tensor-parallel rank. Owns the activations, sized
/// once for `max_rows`; borrows everything else. Used by the compute thread alone; every method
/// blocks until its result is there. A failure is that of the collective: the epoch ends.
///
/// A step is: Embed, or the former stage's rows written into hidden(); RunLayers; then Logits on
/// the last stage, or hidden() handed to the next one.
class Decoder {
 public:
  /// `tensor` joins the ranks of the stage. `checkpoint` is called after each layer; an error of
  /// its ends the step. ResourceExhausted when the activations find no memory.
  static absl::StatusOr<std::unique_ptr<Decoder>> Create(const model::DecoderSpec& spec,
                                                         const model::RankShard& shard,
                                                         const ShardWeights& weights,
                                                         const KvPool& kv, Collective& tensor,
                                                         kernels::ThreadPool& pool,
                                                         int64_t max_rows, CheckpointFn checkpoint);

  /// The residual stream of the step, [rows, hidden_size] fp32, contiguous.
  kernels::Matrix hidden(int64_t rows) { return hidden_.Rows(rows); }

  /// hidden(rows) = the tokens' embeddings. First stage.
  absl::Status Embed(std::span<const int32_t> tokens);

  /// Runs this stage's layers over hidden(rows) and stores the rows' keys and values. positions:
  /// [rows]; sequences: as in kernels/attention.h. `read`, if given, names the rows whose result
  /// the caller reads, ascending: hidden then holds these alone, in that order, and the last layer
  /// computes no more than their keys and values for the others (a prompt's last row is all that a
  /// prefill reads; a row's bits do not depend on it).
  absl::Status RunLayers(std::span<const int32_t> positions,
                         std::span<const kernels::SequenceRows> sequences,
                         std::optional<std::span<const int64_t>> read = std::nullopt);

  /// Most rows that Logits takes at once.
  static constexpr int64_t kMaxLogitRows = 64;
  /// The logits of some rows of hidden as RunLayers left it, [rows.size(), vocabulary slice] fp32;
  /// valid until the next call. Last stage.
  kernels::ConstMatrix Logits(std::span<const int64_t> rows);

 private:
  /// [max_rows, cols] fp32 within the arena.
  struct Buffer {
    float* data = nullptr;
    int64_t cols = 0;
    kernels::Matrix Rows(int64_t rows) const { return {data, rows, cols}; }
  };

  Decoder(const model::DecoderSpec& spec, const model::RankShard& shard,
          const ShardWeights& weights, const KvPool& kv, Collective& tensor,
          kernels::ThreadPool& pool, int64_t max_rows, CheckpointFn checkpoint);
  absl::Status AllocateActivations(int64_t max_rows);

  absl::Status RunLayer(int64_t layer, std::span<const kernels::SequenceRows> sequences,
                        std::optional<std::span<const int64_t>> read);
  /// Moves the rows `keep` of hidden and queries to the front and forgets the others. Returns where
  /// they stand in their sequences.
  std::vector<kernels::SequenceRows> Narrow(std::span<const int64_t> keep,
                                            std::span<const kernels::SequenceRows> sequences);
  void Norm(const std::vector<float>& weight);
  absl::Status AttentionOutput(const LayerWeights& weights);
  absl::Status Mlp(const LayerWeights& weights);
  /// Where this rank writes its part of a sum over the ranks, [rows, sum.cols]; EndSum adds the
  /// parts up into `sum`. Alone, a rank writes into `sum` itself.
  absl::StatusOr<kernels::Matrix> BeginSum(const Buffer& sum);
  absl::Status EndSum(const Buffer& sum);
  void AddDelta();

  const model::DecoderSpec spec_;
  const model::RankShard shard_;
  const ShardWeights& weights_;
  const KvPool& kv_;
  Collective& tensor_;
  kernels::ThreadPool& pool_;
  const CheckpointFn checkpoint_;
  const std::vector<double> inverse_frequencies_;
  const int64_t mlp_rows_;      // rows of the MLP done at a time, to bound its activations
  int64_t rows_ = 0;            // of the step under way
  bool delta_pending_ = false;  // delta_ is still to be added to hidden_

  kernels::HugeBuffer arena_;
  Buffer hidden_;        // the residual stream
  Buffer normed_;        // input of the next product
  Buffer delta_;         // output of the last row-parallel product, summed over the ranks
  Buffer qkv_;           // [.., (heads + 2 kv_heads) * head_dim]
  Buffer attended_;      // [.., heads * head_dim]
  Buffer cos_sin_;       // [.., head_dim]
  Buffer gate_up_;       // [mlp_rows_, 2 ffn]
  Buffer activated_;     // [mlp_rows_, ffn]
  Buffer logit_hidden_;  // [kMaxLogitRows, hidden_size]
  Buffer logits_;        // [kMaxLogitRows, vocabulary slice]
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_DECODER_H_
