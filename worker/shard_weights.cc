// Loading goes matrix by matrix, so that at most one of them exists twice while it is being packed;
// within a matrix all threads take pieces of rows from one counter.
#include "worker/shard_weights.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <optional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/shard_memory.h"
#include "model/tp_plan.h"
#include "model/weights_of_shard.h"

namespace lockstep::worker {
namespace {

using kernels::PackedMatrix;
using model::WeightRole;
using model::WeightSlice;

// About a megabyte of bf16: many pieces per matrix, few enough that taking one costs nothing.
constexpr int64_t kPieceElements = 512 * 1024;
// Pieces begin at multiples of this many rows, so that no two threads share a panel.
constexpr int64_t kPieceRowUnit = 64;

absl::Status WithTensor(const absl::Status& status, const WeightSlice& slice, int64_t row) {
  return absl::Status(status.code(),
                      absl::StrCat(slice.tensor_name, " from row ", row, ": ", status.message()));
}

// Roles whose slices are stacked into one matrix, in this order.
bool Continues(WeightRole role) {
  return role == WeightRole::kKey || role == WeightRole::kValue || role == WeightRole::kUp;
}

bool IsNorm(WeightRole role) {
  return role == WeightRole::kInputNorm || role == WeightRole::kPostAttentionNorm ||
         role == WeightRole::kFinalNorm;
}

// Rows [row, row + rows) of a slice, to be put at output features from `out_begin` on.
struct Piece {
  const WeightSlice* slice;
  int64_t row;
  int64_t rows;
  int64_t out_begin;
};

std::vector<Piece> CutIntoPieces(std::span<const WeightSlice> slices) {
  std::vector<Piece> pieces;
  int64_t out_begin = 0;
  for (const WeightSlice& slice : slices) {
    int64_t unit = std::max<int64_t>(1, kPieceElements / slice.cols.size());
    unit = (unit + kPieceRowUnit - 1) / kPieceRowUnit * kPieceRowUnit;
    for (int64_t row = 0; row < slice.rows.size(); row += unit) {
      int64_t rows = std::min(unit, slice.rows.size() - row);
      pieces.push_back({&slice, slice.rows.begin + row, rows, out_begin + row});
    }
    out_begin += slice.rows.size();
  }
  return pieces;
}

class Loader {
 public:
  Loader(const model::WeightSource& source, DType dtype, kernels::ThreadPool& pool,
         const std::function<bool()>& cancelled)
      : source_(source), dtype_(dtype), pool_(pool), cancelled_(cancelled) {}

  // One matrix of all rows of `slices`, one slice after the other.
  absl::StatusOr<std::unique_ptr<PackedMatrix>> Matrix(std::span<const WeightSlice> slices) {
    int64_t out_features = 0;
    for (const WeightSlice& slice : slices) out_features += slice.rows.size();
    LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<PackedMatrix> matrix,
                              PackedMatrix::Create(out_features, slices[0].cols.size(), dtype_));
    LOCKSTEP_RETURN_IF_ERROR(PackAll(CutIntoPieces(slices), *matrix));
    LOCKSTEP_RETURN_IF_ERROR(matrix->Finish(pool_));
    return matrix;
  }

  absl::StatusOr<std::vector<float>> Norm(const WeightSlice& slice) {
    std::vector<std::byte> scratch;
    LOCKSTEP_ASSIGN_OR_RETURN(model::TensorRows rows,
                              Read({&slice, slice.rows.begin, slice.rows.size(), 0}, scratch));
    std::vector<float> values(rows.rows);
    for (int64_t row = 0; row < rows.rows; ++row) {
      values[row] = ToFloat(rows.data + row * rows.stride_bytes, rows.dtype);
      if (!(std::abs(values[row]) <= std::numeric_limits<float>::max())) {
        return WithTensor(absl::DataLossError("a value is not finite"), slice, row);
      }
    }
    return values;
  }

 private:
  static float ToFloat(const std::byte* data, DType dtype) {
    if (dtype == DType::kF32) {
      float value;
      std::memcpy(&value, data, sizeof(value));
      return value;
    }
    uint16_t bits;
    std::memcpy(&bits, data, sizeof(bits));
    return dtype == DType::kBF16 ? Bf16ToFloat(bits) : F16ToFloat(bits);
  }

  absl::StatusOr<model::TensorRows> Read(const Piece& piece, std::vector<std::byte>& scratch) {
    const WeightSlice& slice = *piece.slice;
    return source_.Rows(slice.tensor_name, slice.full, piece.row, piece.rows, slice.cols.begin,
                        slice.cols.size(), scratch);
  }

  absl::Status PackPiece(const Piece& piece, kernels::ThreadPool& solo,
                         std::vector<std::byte>& scratch, PackedMatrix& matrix) {
    if (cancelled_()) return absl::AbortedError("loading was cancelled");
    LOCKSTEP_ASSIGN_OR_RETURN(model::TensorRows rows, Read(piece, scratch));
    absl::Status packed = matrix.PackRows(
        piece.out_begin, {rows.data, rows.rows, rows.cols, rows.stride_bytes, rows.dtype}, solo);
    return packed.ok() ? packed : WithTensor(packed, *piece.slice, piece.row);
  }

  absl::Status PackAll(const std::vector<Piece>& pieces, PackedMatrix& matrix) {
    std::atomic<size_t> next{0};
    std::mutex mutex;
    absl::Status first_error;
    pool_.Run([&](int) {
      kernels::ThreadPool solo(/*threads=*/1);
      std::vector<std::byte> scratch;
      for (size_t i = next.fetch_add(1); i < pieces.size(); i = next.fetch_add(1)) {
        absl::Status status = PackPiece(pieces[i], solo, scratch, matrix);
        if (status.ok()) continue;
        next.store(pieces.size());
        std::lock_guard lock(mutex);
        first_error.Update(status);
      }
    });
    return first_error;
  }

  const model::WeightSource& source_;
  const DType dtype_;
  kernels::ThreadPool& pool_;
  const std::function<bool()>& cancelled_;
};

// Where the matrix or norm of `role` belongs; exactly one of the two is set.
struct Place {
  std::unique_ptr<PackedMatrix>* matrix = nullptr;
  std::vector<float>* norm = nullptr;
};

Place PlaceOf(const WeightSlice& slice, bool tied, LayerWeights* layer, ShardWeights& weights) {
  switch (slice.role) {
    case WeightRole::kEmbedding:
      return {.matrix = &weights.embedding};
    case WeightRole::kHead:
      // A stage that has only the tied head still keeps it as an embedding: one way to the head.
      if (tied) return {.matrix = &weights.embedding};
      return {.matrix = &weights.untied_head};
    case WeightRole::kFinalNorm:
      return {.norm = &weights.final_norm};
    case WeightRole::kInputNorm:
      return {.norm = &layer->input_norm};
    case WeightRole::kPostAttentionNorm:
      return {.norm = &layer->post_attention_norm};
    case WeightRole::kQuery:
    case WeightRole::kKey:
    case WeightRole::kValue:
      return {.matrix = &layer->qkv};
    case WeightRole::kAttentionOutput:
      return {.matrix = &layer->attention_output};
    case WeightRole::kGate:
    case WeightRole::kUp:
      return {.matrix = &layer->gate_up};
    case WeightRole::kDown:
      return {.matrix = &layer->down};
  }
  return {};
}

}  // namespace

absl::StatusOr<ShardWeights> LoadShardWeights(const model::DecoderSpec& spec,
                                              const model::RankShard& shard,
                                              const model::WeightSource& source, DType dtype,
                                              kernels::ThreadPool& pool,
                                              const LoadProgressFn& progress,
                                              const std::function<bool()>& cancelled) {
  LOCKSTEP_ASSIGN_OR_RETURN(std::vector<WeightSlice> slices,
                            model::WeightsOfShard(spec, model::DefaultTpPlan(spec), shard));
  int64_t total = model::WeightBytes(spec, shard, dtype);
  ShardWeights weights;
  weights.layers.resize(shard.layers.size());
  Loader loader(source, dtype, pool, cancelled);
  int64_t loaded = 0;
  for (size_t begin = 0; begin < slices.size();) {
    size_t end = begin + 1;
    while (end < slices.size() && Continues(slices[end].role)) ++end;
    std::span<const WeightSlice> group(&slices[begin], end - begin);
    bool in_layer = slices[begin].layer >= shard.layers.begin && !weights.layers.empty();
    LayerWeights* layer =
        in_layer ? &weights.layers[slices[begin].layer - shard.layers.begin] : nullptr;
    Place place = PlaceOf(slices[begin], spec.tie_embeddings, layer, weights);
    if (place.norm != nullptr) {
      LOCKSTEP_ASSIGN_OR_RETURN(*place.norm, loader.Norm(group[0]));
      weights.bytes += static_cast<int64_t>(place.norm->size() * sizeof(float));
    } else {
      LOCKSTEP_ASSIGN_OR_RETURN(*place.matrix, loader.Matrix(group));
      weights.bytes += (*place.matrix)->bytes();
    }
    for (const WeightSlice& slice : group) {
      int64_t element = IsNorm(slice.role) ? sizeof(float) : SizeOf(dtype);
      loaded += slice.rows.size() * slice.cols.size() * element;
    }
    progress(std::min(loaded, total), total);
    begin = end;
  }
  return weights;
}

}  // namespace lockstep::worker
