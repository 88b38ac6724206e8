// What generation_config.json says about sampling and the end of a text.
#ifndef LOCKSTEP_MODEL_GENERATION_DEFAULTS_H_
#define LOCKSTEP_MODEL_GENERATION_DEFAULTS_H_

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace lockstep::model {

/// Sampling defaults and end tokens of generation_config.json (and, for the end tokens, of
/// config.json when that file is absent or silent).
struct GenerationDefaults {
  std::vector<int32_t> eos_token_ids;
  std::optional<double> temperature;  // 0 (greedy) when the file says "do_sample": false
  std::optional<double> top_p;
  std::optional<int> top_k;  // 0: off
  std::optional<double> min_p;
  std::optional<double> repetition_penalty;
};

/// An empty text stands for an absent file. InvalidArgument names file and key.
absl::StatusOr<GenerationDefaults> ParseGenerationDefaults(std::string_view generation_config_json,
                                                           std::string_view config_json);

}  // namespace lockstep::model

#endif  // LOCKSTEP_MODEL_GENERATION_DEFAULTS_H_
