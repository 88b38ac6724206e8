// The list of tensor slices that a rank loads, computed from the TP plan's styles. The worker's
// loader iterates it and knows nothing of architectures.
#ifndef LOCKSTEP_MODEL_WEIGHTS_OF_SHARD_H_
#define LOCKSTEP_MODEL_WEIGHTS_OF_SHARD_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "model/decoder_spec.h"
#include "model/rank_shard.h"
#include "model/tp_plan.h"

namespace lockstep::model {

/// A rectangle of one tensor of the checkpoint.
struct WeightSlice {
  WeightRole role = WeightRole::kEmbedding;
  int layer = 0;            // of the whole model; 0 outside layers
  std::string tensor_name;  // as in the checkpoint
  WeightShape full;         // [out, in]; columns 1 for norms
  Range rows;
  Range cols;
  TpStyle style = TpStyle::kReplicate;
};

/// Everything that the rank keeps, in the order in which the forward pass uses it: embedding,
/// layers in order, final norm, head. A tied head is listed only where the rank has not the
/// embedding already; its tensor_name is then the embedding's. InvalidArgument for a plan that the
/// decoder cannot run, naming the rule and the style that is needed.
absl::StatusOr<std::vector<WeightSlice>> WeightsOfShard(const DecoderSpec& spec, const TpPlan& plan,
                                                        const RankShard& shard);

}  // namespace lockstep::model

#endif  // LOCKSTEP_MODEL_WEIGHTS_OF_SHARD_H_
