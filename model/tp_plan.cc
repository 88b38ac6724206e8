// The default plan follows from what each weight is for, so that an architecture needs to name only
// its weights.
#include "model/tp_plan.h"

#include "absl/strings/str_replace.h"

namespace lockstep::model {
namespace {

constexpr std::string_view kWeightSuffix = ".weight";

TpStyle DefaultStyle(WeightRole role) {
  switch (role) {
    case WeightRole::kEmbedding:
      return TpStyle::kVocabParallel;
    case WeightRole::kHead:
      return TpStyle::kColwiseGatherOutput;
    case WeightRole::kQuery:
    case WeightRole::kKey:
    case WeightRole::kValue:
    case WeightRole::kGate:
    case WeightRole::kUp:
      return TpStyle::kColwise;
    case WeightRole::kAttentionOutput:
    case WeightRole::kDown:
      return TpStyle::kRowwise;
    case WeightRole::kFinalNorm:
    case WeightRole::kInputNorm:
    case WeightRole::kPostAttentionNorm:
      return TpStyle::kReplicate;
  }
  return TpStyle::kReplicate;
}

std::string_view ModuleName(std::string_view tensor_name) {
  if (tensor_name.ends_with(kWeightSuffix)) tensor_name.remove_suffix(kWeightSuffix.size());
  return tensor_name;
}

/// The part of `path` before the next dot; removes it and the dot.
std::string_view NextComponent(std::string_view& path) {
  size_t dot = path.find('.');
  std::string_view component = path.substr(0, dot);
  path.remove_prefix(dot == std::string_view::npos ? path.size() : dot + 1);
  return component;
}

bool Matches(std::string_view pattern, std::string_view module) {
  while (!pattern.empty() && !module.empty()) {
    std::string_view wanted = NextComponent(pattern);
    std::string_view found = NextComponent(module);
    if (wanted != "*" && wanted != found) return false;
  }
  return pattern.empty() && module.empty();
}

}  // namespace

std::string_view Name(TpStyle style) {
  switch (style) {
    case TpStyle::kReplicate:
      return "replicate";
    case TpStyle::kColwise:
      return "colwise";
    case TpStyle::kRowwise:
      return "rowwise";
    case TpStyle::kColwiseGatherOutput:
      return "colwise_gather_output";
    case TpStyle::kVocabParallel:
      return "vocab_parallel";
  }
  return "?";
}

TpPlan DefaultTpPlan(const DecoderSpec& spec) {
  TpPlan plan;
  for (const WeightName& weight : spec.weight_names) {
    std::string module(ModuleName(weight.name));
    plan.push_back({absl::StrReplaceAll(module, {{"{}", "*"}}), DefaultStyle(weight.role)});
  }
  return plan;
}

TpStyle StyleOf(const TpPlan& plan, std::string_view tensor_name) {
  std::string_view module = ModuleName(tensor_name);
  for (const TpRule& rule : plan) {
    if (Matches(rule.pattern, module)) return rule.style;
  }
  return TpStyle::kReplicate;
}

}  // namespace lockstep::model
