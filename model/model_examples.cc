// The texts, cut down to the keys that describe the model.
#include "model/model_examples.h"

#include "model/config.h"

namespace lockstep::model {

std::string Llama70bConfig() {
  return R"({
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": false,
    "eos_token_id": [128001, 128008, 128009],
    "hidden_act": "silu",
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "max_position_embeddings": 131072,
    "mlp_bias": false,
    "model_type": "llama",
    "num_attention_heads": 64,
    "num_hidden_layers": 80,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
      "factor": 8.0,
      "high_freq_factor": 4.0,
      "low_freq_factor": 1.0,
      "original_max_position_embeddings": 8192,
      "rope_type": "llama3"
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": false,
    "torch_dtype": "bfloat16",
    "vocab_size": 128256
  })";
}

std::string Llama1bConfig() {
  return R"({
    "architectures": ["LlamaForCausalLM"],
    "dtype": "bfloat16",
    "eos_token_id": 128001,
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "max_position_embeddings": 131072,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 16,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
    "rope_parameters": {
      "factor": 32.0,
      "high_freq_factor": 4.0,
      "low_freq_factor": 1.0,
      "original_max_position_embeddings": 8192,
      "rope_theta": 500000.0,
      "rope_type": "llama3"
    },
    "tie_word_embeddings": true,
    "vocab_size": 128256
  })";
}

std::string SmallLlamaConfig() {
  return R"({
    "architectures": ["LlamaForCausalLM"],
    "dtype": "float32",
    "head_dim": 32,
    "hidden_size": 256,
    "intermediate_size": 512,
    "max_position_embeddings": 2048,
    "model_type": "llama",
    "num_attention_heads": 8,
    "num_hidden_layers": 4,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-05,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
    "tie_word_embeddings": false,
    "vocab_size": 1024
  })";
}

DecoderSpec SpecOf(const std::string& config_json) { return ParseDecoderSpec(config_json).value(); }

}  // namespace lockstep::model
