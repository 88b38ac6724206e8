// Reads a Hugging Face config.json into a DecoderSpec. Its neighbours, included for convenience:
// generation_defaults.h (generation_config.json) and model_directory.h (where the files are).
#ifndef LOCKSTEP_MODEL_CONFIG_H_
#define LOCKSTEP_MODEL_CONFIG_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "model/decoder_spec.h"
#include "model/generation_defaults.h"  // IWYU pragma: export
#include "model/model_directory.h"      // IWYU pragma: export

namespace lockstep::model {

/// From the text of config.json, with the older keys (rope_theta, rope_scaling, torch_dtype) or
/// those of Transformers 5 (rope_parameters, dtype). InvalidArgument for malformed JSON, a missing
/// or impossible value (naming the key); Unimplemented, with what is known, for an unknown
/// architecture, activation, RoPE scaling or a quantized model (AWQ, GPTQ, fp8, ... by its name).
absl::StatusOr<DecoderSpec> ParseDecoderSpec(std::string_view config_json);

}  // namespace lockstep::model

#endif  // LOCKSTEP_MODEL_CONFIG_H_
