// The forward pass. The sum over ranks after a row-parallel product stays apart in delta_ and is
// added by the norm that follows, which reads both anyway.
#include "worker/decoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/status_macros.h"
#include "kernels/ops.h"
#include "kernels/product.h"

namespace lockstep::worker {
namespace {

using kernels::ConstMatrix;
using kernels::Matrix;

constexpr int64_t kMlpRows = 512;
constexpr int64_t kAlignFloats = 16;  // 64 bytes

int64_t PaddedFloats(int64_t floats) {
  return (floats + kAlignFloats - 1) / kAlignFloats * kAlignFloats;
}

}  // namespace

Decoder::Decoder(const model::DecoderSpec& spec, const model::RankShard& shard,
                 const ShardWeights& weights, const KvPool& kv, Collective& tensor,
                 kernels::ThreadPool& pool, int64_t max_rows, CheckpointFn checkpoint)
    : spec_(spec),
      shard_(shard),
      weights_(weights),
      kv_(kv),
      tensor_(tensor),
      pool_(pool),
      checkpoint_(std::move(checkpoint)),
      inverse_frequencies_(model::InverseFrequencies(spec.attention.rope, spec.attention.head_dim)),
      mlp_rows_(std::min(max_rows, kMlpRows)) {}

absl::StatusOr<std::unique_ptr<Decoder>> Decoder::Create(
    const model::DecoderSpec& spec, const model::RankShard& shard, const ShardWeights& weights,
    const KvPool& kv, Collective& tensor, kernels::ThreadPool& pool, int64_t max_rows,
    CheckpointFn checkpoint) {
  std::unique_ptr<Decoder> decoder(
      new Decoder(spec, shard, weights, kv, tensor, pool, max_rows, std::move(checkpoint)));
  LOCKSTEP_RETURN_IF_ERROR(decoder->AllocateActivations(max_rows));
  return decoder;
}

absl::Status Decoder::AllocateActivations(int64_t max_rows) {
  const int64_t hidden = spec_.hidden_size;
  const int64_t head_dim = spec_.attention.head_dim;
  const int64_t heads = shard_.heads.size();
  const int64_t logit_rows = shard_.has_head ? std::min(max_rows, kMaxLogitRows) : 0;
  struct Wanted {
    Buffer* buffer;
    int64_t rows;
    int64_t cols;
  };
  const Wanted wanted[] = {
      {&hidden_, max_rows, hidden},
      {&normed_, max_rows, hidden},
      {&delta_, max_rows, hidden},
      {&qkv_, max_rows, (heads + 2 * shard_.kv_heads.size()) * head_dim},
      {&attended_, max_rows, heads * head_dim},
      {&cos_sin_, max_rows, head_dim},
      {&gate_up_, mlp_rows_, 2 * shard_.ffn.size()},
      {&activated_, mlp_rows_, shard_.ffn.size()},
      {&logit_hidden_, logit_rows, hidden},
      {&logits_, logit_rows, shard_.vocab.size()},
  };
  int64_t floats = 0;
  for (const Wanted& want : wanted) floats += PaddedFloats(want.rows * want.cols);
  LOCKSTEP_ASSIGN_OR_RETURN(
      arena_, kernels::HugeBuffer::Allocate(floats * static_cast<int64_t>(sizeof(float))));
  float* next = arena_.as<float>();
  for (const Wanted& want : wanted) {
    *want.buffer = {next, want.cols};
    next += PaddedFloats(want.rows * want.cols);
  }
  return absl::OkStatus();
}

absl::StatusOr<Matrix> Decoder::BeginSum(const Buffer& sum) {
  if (tensor_.size() == 1) return sum.Rows(rows_);
  LOCKSTEP_ASSIGN_OR_RETURN(std::span<float> addend, tensor_.Addend(rows_ * sum.cols));
  return Matrix(addend.data(), rows_, sum.cols);
}

absl::Status Decoder::EndSum(const Buffer& sum) {
  if (tensor_.size() == 1) return absl::OkStatus();
  return tensor_.AllReduceSum({sum.data, static_cast<size_t>(rows_ * sum.cols)});
}

absl::Status Decoder::Embed(std::span<const int32_t> tokens) {
  rows_ = static_cast<int64_t>(tokens.size());
  LOCKSTEP_ASSIGN_OR_RETURN(Matrix embedded, BeginSum(hidden_));
  pool_.ParallelFor(rows_, /*grain=*/16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t index = tokens[row] - shard_.vocab.begin;
      if (index >= 0 && index < shard_.vocab.size()) {
        weights_.embedding->ReadRow(index, embedded.row(row));
      } else {
        std::fill_n(embedded.row(row), embedded.cols, 0.0f);
      }
    }
  });
  return EndSum(hidden_);
}

absl::Status Decoder::RunLayers(std::span<const int32_t> positions,
                                std::span<const kernels::SequenceRows> sequences,
                                std::optional<std::span<const int64_t>> read) {
  rows_ = static_cast<int64_t>(positions.size());
  delta_pending_ = false;
  kernels::RopeCosSin(positions, inverse_frequencies_, 1.0f, cos_sin_.Rows(rows_), pool_);
  for (int64_t layer = 0; layer < shard_.layers.size(); ++layer) {
    const bool last = layer + 1 == shard_.layers.size();
    LOCKSTEP_RETURN_IF_ERROR(RunLayer(layer, sequences, last ? read : std::nullopt));
    LOCKSTEP_RETURN_IF_ERROR(checkpoint_());
  }
  AddDelta();
  return absl::OkStatus();
}

absl::Status Decoder::RunLayer(int64_t layer, std::span<const kernels::SequenceRows> sequences,
                               std::optional<std::span<const int64_t>> read) {
  const LayerWeights& weights = weights_.layers[layer];
  const int64_t head_dim = spec_.attention.head_dim;
  const int heads = static_cast<int>(shard_.heads.size());
  const int kv_heads = static_cast<int>(shard_.kv_heads.size());
  const Matrix qkv = qkv_.Rows(rows_);
  const Matrix query = qkv.ColumnRange(0, heads * head_dim);
  const Matrix key = qkv.ColumnRange(heads * head_dim, (heads + kv_heads) * head_dim);
  const Matrix value = qkv.ColumnRange((heads + kv_heads) * head_dim, qkv.cols);
  const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));

  Norm(weights.input_norm);
  weights.qkv->Product(normed_.Rows(rows_), qkv, pool_);
  kernels::RotateHalf(query, cos_sin_.Rows(rows_), heads, pool_);
  kernels::RotateHalf(key, cos_sin_.Rows(rows_), kv_heads, pool_);
  kernels::StoreKv(key, value, sequences, kv_.layout(), kv_.layer(layer), pool_);

  std::vector<kernels::SequenceRows> narrowed;
  if (read && static_cast<int64_t>(read->size()) < rows_) {
    narrowed = Narrow(*read, sequences);
    sequences = narrowed;
    if (rows_ == 0) return absl::OkStatus();
  }
  kernels::PagedAttention(query.RowRange(0, rows_), sequences, kv_.layout(), kv_.layer(layer),
                          scale, attended_.Rows(rows_), pool_);
  LOCKSTEP_RETURN_IF_ERROR(AttentionOutput(weights));
  Norm(weights.post_attention_norm);
  return Mlp(weights);
}

std::vector<kernels::SequenceRows> Decoder::Narrow(
    std::span<const int64_t> keep, std::span<const kernels::SequenceRows> sequences) {
  std::vector<kernels::SequenceRows> kept;
  auto sequence = sequences.begin();
  for (const int64_t row : keep) {
    while (row >= sequence->first_row + sequence->rows) ++sequence;
    const int64_t to = static_cast<int64_t>(kept.size());
    // Ascending, so that no row is overwritten before it is moved.
    std::copy_n(hidden_.data + row * hidden_.cols, hidden_.cols, hidden_.data + to * hidden_.cols);
    std::copy_n(qkv_.data + row * qkv_.cols, qkv_.cols, qkv_.data + to * qkv_.cols);
    kept.push_back({.first_row = to,
                    .rows = 1,
                    .first_position = sequence->first_position + row - sequence->first_row,
                    .block_table = sequence->block_table});
  }
  rows_ = static_cast<int64_t>(kept.size());
  return kept;
}

void Decoder::Norm(const std::vector<float>& weight) {
  const Matrix hidden = hidden_.Rows(rows_);
  const Matrix out = normed_.Rows(rows_);
  if (delta_pending_) {
    kernels::AddRmsNorm(hidden, delta_.Rows(rows_), weight, spec_.norm_eps, out, pool_);
  } else {
    kernels::RmsNorm(hidden, weight, spec_.norm_eps, out, pool_);
  }
  delta_pending_ = false;
}

absl::Status Decoder::AttentionOutput(const LayerWeights& weights) {
  LOCKSTEP_ASSIGN_OR_RETURN(Matrix projected, BeginSum(delta_));
  weights.attention_output->Product(attended_.Rows(rows_), projected, pool_);
  delta_pending_ = true;
  return EndSum(delta_);
}

absl::Status Decoder::Mlp(const LayerWeights& weights) {
  LOCKSTEP_ASSIGN_OR_RETURN(Matrix down, BeginSum(delta_));
  for (int64_t begin = 0; begin < rows_; begin += mlp_rows_) {
    const int64_t end = std::min(rows_, begin + mlp_rows_);
    const Matrix gate_up = gate_up_.Rows(end - begin);
    const Matrix activated = activated_.Rows(end - begin);
    weights.gate_up->Product(normed_.Rows(rows_).RowRange(begin, end), gate_up, pool_);
    kernels::SiluMul(gate_up, activated, pool_);
    weights.down->Product(activated, down.RowRange(begin, end), pool_);
  }
  delta_pending_ = true;
  return EndSum(delta_);
}

void Decoder::AddDelta() {
  if (!delta_pending_) return;
  delta_pending_ = false;
  constexpr int64_t kGrain = 16 * 1024;
  pool_.ParallelFor(rows_ * spec_.hidden_size, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) hidden_.data[i] += delta_.data[i];
  });
}

ConstMatrix Decoder::Logits(std::span<const int64_t> rows) {
  const int64_t count = static_cast<int64_t>(rows.size());
  const Matrix gathered = logit_hidden_.Rows(count);
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(gathered.row(i), hidden_.data + rows[i] * spec_.hidden_size,
                spec_.hidden_size * sizeof(float));
  }
  kernels::RmsNorm(gathered, weights_.final_norm, spec_.norm_eps, gathered, pool_);
  const Matrix logits = logits_.Rows(count);
  weights_.head().Product(gathered, logits, pool_);
  return logits;
}

}  // namespace lockstep::worker
