// Shapes, names and rotary frequencies that follow from a description.
#include "model/decoder_spec.h"

#include <cmath>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace lockstep::model {
namespace {

/// Long wavelengths are stretched by `factor`, short ones kept, those between blended.
double Llama3Scaled(double frequency, const RopeSpec& rope) {
  double original = static_cast<double>(rope.original_max_position);
  double turns = original * frequency / (2 * std::numbers::pi);
  if (turns > rope.high_freq_factor) return frequency;
  if (turns < rope.low_freq_factor) return frequency / rope.factor;
  double smooth = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  return (1 - smooth) * frequency / rope.factor + smooth * frequency;
}

double Scaled(double frequency, const RopeSpec& rope) {
  switch (rope.scaling) {
    case RopeScaling::kNone:
      return frequency;
    case RopeScaling::kLinear:
      return frequency / rope.factor;
    case RopeScaling::kLlama3:
      return Llama3Scaled(frequency, rope);
  }
  return frequency;
}

}  // namespace

std::vector<double> InverseFrequencies(const RopeSpec& rope, int head_dim) {
  std::vector<double> frequencies(head_dim / 2);
  for (int i = 0; i < head_dim / 2; ++i) {
    frequencies[i] = Scaled(std::pow(rope.theta, -2.0 * i / head_dim), rope);
  }
  return frequencies;
}

WeightShape FullShape(const DecoderSpec& spec, WeightRole role) {
  int64_t query = static_cast<int64_t>(spec.attention.num_heads) * spec.attention.head_dim;
  int64_t key_value = static_cast<int64_t>(spec.attention.kv_heads) * spec.attention.head_dim;
  switch (role) {
    case WeightRole::kEmbedding:
    case WeightRole::kHead:
      return {spec.vocab_size, spec.hidden_size};
    case WeightRole::kFinalNorm:
    case WeightRole::kInputNorm:
    case WeightRole::kPostAttentionNorm:
      return {spec.hidden_size, 1};
    case WeightRole::kQuery:
      return {query, spec.hidden_size};
    case WeightRole::kKey:
    case WeightRole::kValue:
      return {key_value, spec.hidden_size};
    case WeightRole::kAttentionOutput:
      return {spec.hidden_size, query};
    case WeightRole::kGate:
    case WeightRole::kUp:
      return {spec.mlp.intermediate_size, spec.hidden_size};
    case WeightRole::kDown:
      return {spec.hidden_size, spec.mlp.intermediate_size};
  }
  return {};
}

std::string TensorName(const DecoderSpec& spec, WeightRole role, int layer) {
  if (role == WeightRole::kHead && spec.tie_embeddings) role = WeightRole::kEmbedding;
  for (const WeightName& weight : spec.weight_names) {
    if (weight.role != role) continue;
    return absl::StrReplaceAll(weight.name, {{"{}", absl::StrCat(layer)}});
  }
  return "";
}

}  // namespace lockstep::model
