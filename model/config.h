// Reads a Hugging Face model directory's config.json and generation_config.json.
#ifndef LOCKSTEP_MODEL_CONFIG_H_
#define LOCKSTEP_MODEL_CONFIG_H_

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "model/decoder_spec.h"

namespace lockstep::model {

/// From the text of config.json, with the older keys (rope_theta, rope_scaling, torch_dtype) or
/// those of Transformers 5 (rope_parameters, dtype). InvalidArgument for malformed JSON, a missing
/// or impossible value (naming the key); Unimplemented, with what is known, for an unknown
/// architecture, activation, RoPE scaling or a quantized model (AWQ, GPTQ, fp8, ... by its name).
absl::StatusOr<DecoderSpec> ParseDecoderSpec(std::string_view config_json);

/// Sampling defaults and end tokens of generation_config.json (and, for the end tokens, of
/// config.json when that file is absent or silent).
struct GenerationDefaults {
  std::vector<int32_t> eos_token_ids;
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<int> top_k;
};
absl::StatusOr<GenerationDefaults> ParseGenerationDefaults(std::string_view generation_config_json,
                                                           std::string_view config_json);

/// A model directory from what a user typed after --model: a directory, or `org/name` found in the
/// local Hugging Face cache (HF_HUB_CACHE, HF_HOME, ~/.cache/huggingface/hub; the revision of
/// refs/main). NotFound says where was looked.
absl::StatusOr<std::filesystem::path> ResolveModelDirectory(const std::string& model);

/// A whole small text file. NotFound, or what errno says, with the path.
absl::StatusOr<std::string> ReadTextFile(const std::filesystem::path& path);

}  // namespace lockstep::model

#endif  // LOCKSTEP_MODEL_CONFIG_H_
