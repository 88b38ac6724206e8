// What a model is, as data: one decoder forward reads this description, and there is no class per
// architecture. Made from a Hugging Face config.json by ParseDecoderSpec (config.h).
#ifndef LOCKSTEP_MODEL_DECODER_SPEC_H_
#define LOCKSTEP_MODEL_DECODER_SPEC_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"

namespace lockstep::model {

/// How rotary frequencies are scaled beyond the original context; names are Hugging Face's.
enum class RopeScaling { kNone, kLinear, kLlama3 };

struct RopeSpec {
  double theta = 10000.0;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1.0;
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  int64_t original_max_position = 0;
  bool operator==(const RopeSpec&) const = default;
};

struct AttentionSpec {
  int num_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  RopeSpec rope;
  int group() const { return num_heads / kv_heads; }
};

enum class Activation { kSilu };

struct MlpSpec {
  int64_t intermediate_size = 0;
  Activation activation = Activation::kSilu;
};

/// What a weight is for. Per layer except the first three.
enum class WeightRole {
  kEmbedding,
  kFinalNorm,
  kHead,
  kInputNorm,
  kQuery,
  kKey,
  kValue,
  kAttentionOutput,
  kPostAttentionNorm,
  kGate,
  kUp,
  kDown,
};

/// How an architecture spells a weight: "{}" stands for the layer index.
struct WeightName {
  WeightRole role;
  std::string name;  // e.g. "model.layers.{}.self_attn.q_proj.weight"
};

struct DecoderSpec {
  std::string architecture;  // e.g. "LlamaForCausalLM"
  int64_t hidden_size = 0;
  int num_layers = 0;
  int64_t vocab_size = 0;
  int64_t max_position = 0;  // the longest sequence that the model was made for, in tokens
  float norm_eps = 1e-5f;
  AttentionSpec attention;
  MlpSpec mlp;
  bool tie_embeddings = false;      // the head is the embedding
  DType file_dtype = DType::kBF16;  // what config.json announces; files may differ per tensor
  std::vector<WeightName> weight_names;
};

/// inverse_frequencies[i] of the rotary embedding, [head_dim / 2], scaling applied, in double
/// precision (Llama-3: Dubey et al. 2024 and Hugging Face's modeling_rope_utils).
std::vector<double> InverseFrequencies(const RopeSpec& rope, int head_dim);

/// Rows and columns, [out, in] as in the file, of a weight in full; columns 1 for norms.
struct WeightShape {
  int64_t rows = 0;
  int64_t cols = 0;
};
WeightShape FullShape(const DecoderSpec& spec, WeightRole role);

/// The tensor's name in the checkpoint; `layer` is ignored for roles outside layers.
std::string TensorName(const DecoderSpec& spec, WeightRole role, int layer);

}  // namespace lockstep::model

#endif  // LOCKSTEP_MODEL_DECODER_SPEC_H_
