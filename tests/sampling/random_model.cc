// The tensors that the description names, one after the other.
#include "tests/sampling/random_model.h"

#include <system_error>
#include <vector>

#include "model/decoder_spec.h"
#include "model/model_examples.h"
#include "model/safetensors_writer.h"
#include "worker/testing/random_weights.h"

namespace lockstep::tests {
namespace {

using model::WeightRole;

model::TensorToWrite TensorOf(const model::DecoderSpec& spec, uint64_t seed, WeightRole role,
                              int layer) {
  const model::WeightShape shape = model::FullShape(spec, role);
  model::TensorToWrite tensor;
  tensor.name = model::TensorName(spec, role, layer);
  tensor.dtype = "F32";
  tensor.shape = {shape.rows};
  if (shape.cols > 1) tensor.shape.push_back(shape.cols);
  for (int64_t row = 0; row < shape.rows; ++row) {
    for (int64_t col = 0; col < shape.cols; ++col) {
      const float weight = worker::RandomWeight(seed, tensor.name, row, col, shape);
      tensor.data.append(reinterpret_cast<const char*>(&weight), sizeof(weight));
    }
  }
  return tensor;
}

}  // namespace

std::string RandomModelConfig() {
  return R"({
    "architectures": ["LlamaForCausalLM"],
    "dtype": "float32",
    "head_dim": 16,
    "hidden_size": 64,
    "intermediate_size": 96,
    "max_position_embeddings": 64,
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_hidden_layers": 1,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-05,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
    "tie_word_embeddings": false,
    "vocab_size": 101
  })";
}

absl::Status WriteRandomModel(uint64_t seed, const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return absl::UnavailableError(directory.string() + ": " + error.message());
  const model::DecoderSpec spec = model::SpecOf(RandomModelConfig());
  std::vector<model::TensorToWrite> tensors;
  for (WeightRole role : {WeightRole::kEmbedding, WeightRole::kFinalNorm, WeightRole::kHead}) {
    tensors.push_back(TensorOf(spec, seed, role, 0));
  }
  for (int layer = 0; layer < spec.num_layers; ++layer) {
    for (WeightRole role :
         {WeightRole::kInputNorm, WeightRole::kQuery, WeightRole::kKey, WeightRole::kValue,
          WeightRole::kAttentionOutput, WeightRole::kPostAttentionNorm, WeightRole::kGate,
          WeightRole::kUp, WeightRole::kDown}) {
      tensors.push_back(TensorOf(spec, seed, role, layer));
    }
  }
  return model::WriteBytes(directory / "model.safetensors", model::SerializeSafetensors(tensors));
}

}  // namespace lockstep::tests
