// From styles to rectangles: a column-parallel weight is cut by rows of [out, in], a row-parallel
// one by columns, each along the unit (heads, KV heads, FFN, vocabulary) that its role has.
#include "model/weights_of_shard.h"

#include <array>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace lockstep::model {
namespace {

constexpr std::array kLayerRoles = {
    WeightRole::kInputNorm,
    WeightRole::kQuery,
    WeightRole::kKey,
    WeightRole::kValue,
    WeightRole::kAttentionOutput,
    WeightRole::kPostAttentionNorm,
    WeightRole::kGate,
    WeightRole::kUp,
    WeightRole::kDown,
};

Range Scaled(Range range, int64_t factor) { return {range.begin * factor, range.end * factor}; }

/// The shard's part of the dimension along which a weight of this role is divided; nullopt for the
/// roles that every rank holds in full.
std::optional<Range> DividedPart(const DecoderSpec& spec, const RankShard& shard, WeightRole role) {
  switch (role) {
    case WeightRole::kEmbedding:
    case WeightRole::kHead:
      return shard.vocab;
    case WeightRole::kQuery:
    case WeightRole::kAttentionOutput:
      return Scaled(shard.heads, spec.attention.head_dim);
    case WeightRole::kKey:
    case WeightRole::kValue:
      return Scaled(shard.kv_heads, spec.attention.head_dim);
    case WeightRole::kGate:
    case WeightRole::kUp:
    case WeightRole::kDown:
      return shard.ffn;
    case WeightRole::kFinalNorm:
    case WeightRole::kInputNorm:
    case WeightRole::kPostAttentionNorm:
      return std::nullopt;
  }
  return std::nullopt;
}

/// The style that the decoder's place for this role needs: it sums after row-parallel weights only.
TpStyle NeededStyle(WeightRole role) {
  switch (role) {
    case WeightRole::kEmbedding:
      return TpStyle::kVocabParallel;
    case WeightRole::kHead:
      return TpStyle::kColwiseGatherOutput;
    case WeightRole::kAttentionOutput:
    case WeightRole::kDown:
      return TpStyle::kRowwise;
    case WeightRole::kFinalNorm:
    case WeightRole::kInputNorm:
    case WeightRole::kPostAttentionNorm:
      return TpStyle::kReplicate;
    default:
      return TpStyle::kColwise;
  }
}

/// A tied head is cut like the embedding that it is; both go by rows of the vocabulary.
TpStyle NeededStyle(const DecoderSpec& spec, WeightRole role) {
  bool tied_head = role == WeightRole::kHead && spec.tie_embeddings;
  return NeededStyle(tied_head ? WeightRole::kEmbedding : role);
}

absl::StatusOr<WeightSlice> MakeSlice(const DecoderSpec& spec, const TpPlan& plan,
                                      const RankShard& shard, WeightRole role, int layer) {
  WeightSlice slice;
  slice.role = role;
  slice.layer = layer;
  slice.tensor_name = TensorName(spec, role, layer);
  slice.full = FullShape(spec, role);
  slice.rows = {0, slice.full.rows};
  slice.cols = {0, slice.full.cols};
  slice.style = StyleOf(plan, slice.tensor_name);
  if (TpStyle needed = NeededStyle(spec, role); slice.style != needed) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the tensor-parallel plan makes ", slice.tensor_name, " ", std::string(Name(slice.style)),
        ", but the ", spec.architecture, " decoder needs it ", std::string(Name(needed))));
  }
  if (std::optional<Range> part = DividedPart(spec, shard, role)) {
    (slice.style == TpStyle::kRowwise ? slice.cols : slice.rows) = *part;
  }
  return slice;
}

}  // namespace

absl::StatusOr<std::vector<WeightSlice>> WeightsOfShard(const DecoderSpec& spec, const TpPlan& plan,
                                                        const RankShard& shard) {
  std::vector<WeightSlice> slices;
  auto add = [&](WeightRole role, int layer) -> absl::Status {
    LOCKSTEP_ASSIGN_OR_RETURN(WeightSlice slice, MakeSlice(spec, plan, shard, role, layer));
    slices.push_back(std::move(slice));
    return absl::OkStatus();
  };
  if (shard.has_embedding) LOCKSTEP_RETURN_IF_ERROR(add(WeightRole::kEmbedding, 0));
  for (int64_t layer = shard.layers.begin; layer < shard.layers.end; ++layer) {
    for (WeightRole role : kLayerRoles) {
      LOCKSTEP_RETURN_IF_ERROR(add(role, static_cast<int>(layer)));
    }
  }
  if (!shard.has_head) return slices;
  LOCKSTEP_RETURN_IF_ERROR(add(WeightRole::kFinalNorm, 0));
  bool listed_already = spec.tie_embeddings && shard.has_embedding;
  if (!listed_already) LOCKSTEP_RETURN_IF_ERROR(add(WeightRole::kHead, 0));
  return slices;
}

}  // namespace lockstep::model
