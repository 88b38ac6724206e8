// The table of architectures.
#include "model/architectures.h"

#include <algorithm>

namespace lockstep::model {
namespace {

std::vector<WeightName> LlamaWeightNames() {
  return {
      {WeightRole::kEmbedding, "model.embed_tokens.weight"},
      {WeightRole::kFinalNorm, "model.norm.weight"},
      {WeightRole::kHead, "lm_head.weight"},
      {WeightRole::kInputNorm, "model.layers.{}.input_layernorm.weight"},
      {WeightRole::kQuery, "model.layers.{}.self_attn.q_proj.weight"},
      {WeightRole::kKey, "model.layers.{}.self_attn.k_proj.weight"},
      {WeightRole::kValue, "model.layers.{}.self_attn.v_proj.weight"},
      {WeightRole::kAttentionOutput, "model.layers.{}.self_attn.o_proj.weight"},
      {WeightRole::kPostAttentionNorm, "model.layers.{}.post_attention_layernorm.weight"},
      {WeightRole::kGate, "model.layers.{}.mlp.gate_proj.weight"},
      {WeightRole::kUp, "model.layers.{}.mlp.up_proj.weight"},
      {WeightRole::kDown, "model.layers.{}.mlp.down_proj.weight"},
  };
}

const Architecture* FindBy(std::string Architecture::*field, std::string_view value) {
  const std::vector<Architecture>& known = KnownArchitectures();
  auto found = std::find_if(known.begin(), known.end(),
                            [&](const Architecture& entry) { return entry.*field == value; });
  return found == known.end() ? nullptr : &*found;
}

}  // namespace

const std::vector<Architecture>& KnownArchitectures() {
  static const auto& known = *new std::vector<Architecture>{
      {"LlamaForCausalLM", "llama", LlamaWeightNames()},
  };
  return known;
}

const Architecture* FindArchitecture(std::string_view name) {
  return FindBy(&Architecture::name, name);
}

const Architecture* FindModelType(std::string_view model_type) {
  return FindBy(&Architecture::model_type, model_type);
}

}  // namespace lockstep::model
