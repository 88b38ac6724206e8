// The tensor-parallel plan as data, in Hugging Face's own words: weight-name patterns and styles.
#ifndef LOCKSTEP_MODEL_TP_PLAN_H_
#define LOCKSTEP_MODEL_TP_PLAN_H_

#include <string>
#include <string_view>
#include <vector>

#include "model/decoder_spec.h"

namespace lockstep::model {

/// Transformers' names, but for kVocabParallel: the embedding's rows spread over the ranks, summed
/// after the look-up.
enum class TpStyle { kReplicate, kColwise, kRowwise, kColwiseGatherOutput, kVocabParallel };

std::string_view Name(TpStyle style);

struct TpRule {
  std::string
      pattern;  // module name, "*" for one path component: "model.layers.*.self_attn.q_proj"
  TpStyle style;
};
using TpPlan = std::vector<TpRule>;

/// The plan that an architecture has by default (`auto`).
TpPlan DefaultTpPlan(const DecoderSpec& spec);

/// The style of a tensor ("model.layers.3.mlp.up_proj.weight"): that of the first rule that matches
/// its module name; kReplicate when none does.
TpStyle StyleOf(const TpPlan& plan, std::string_view tensor_name);

}  // namespace lockstep::model

#endif  // LOCKSTEP_MODEL_TP_PLAN_H_
