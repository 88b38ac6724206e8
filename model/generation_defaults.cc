// Reads generation_config.json.
#include "model/generation_defaults.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/json_fields.h"

namespace lockstep::model {
namespace {

constexpr int64_t kMaxTokenId = INT32_MAX;
constexpr size_t kMaxEndTokens = 1024;
constexpr double kMaxTemperature = 100.0;
// A logit is divided by it.
constexpr double kMinRepetitionPenalty = 1e-6;
constexpr double kMaxRepetitionPenalty = 100.0;

/// eos_token_id: an integer, a list of them, or absent.
absl::StatusOr<std::vector<int32_t>> EndTokens(const JsonFields& fields) {
  std::vector<int32_t> ids;
  const nlohmann::json* value = fields.Find("eos_token_id");
  if (value == nullptr) return ids;
  const nlohmann::json list = value->is_array() ? *value : nlohmann::json::array({*value});
  if (list.size() > kMaxEndTokens) {
    return fields.Error("eos_token_id", absl::StrCat("has ", list.size(), " entries; at most ",
                                                     kMaxEndTokens, " are read"));
  }
  for (const nlohmann::json& entry : list) {
    LOCKSTEP_ASSIGN_OR_RETURN(int64_t id,
                              IntegerIn(entry, fields.where() + ": eos_token_id", 0, kMaxTokenId));
    if (std::find(ids.begin(), ids.end(), id) == ids.end()) {
      ids.push_back(static_cast<int32_t>(id));
    }
  }
  return ids;
}

absl::Status ReadGenerationConfig(std::string_view text, GenerationDefaults& defaults) {
  LOCKSTEP_ASSIGN_OR_RETURN(nlohmann::json json, ParseJsonObject(text, "generation_config.json"));
  JsonFields fields(json, "generation_config.json");
  LOCKSTEP_ASSIGN_OR_RETURN(defaults.eos_token_ids, EndTokens(fields));
  LOCKSTEP_ASSIGN_OR_RETURN(defaults.temperature,
                            fields.OptionalNumber("temperature", 0, kMaxTemperature));
  LOCKSTEP_ASSIGN_OR_RETURN(defaults.top_p, fields.OptionalNumber("top_p", 0, 1));
  LOCKSTEP_ASSIGN_OR_RETURN(defaults.min_p, fields.OptionalNumber("min_p", 0, 1));
  LOCKSTEP_ASSIGN_OR_RETURN(
      defaults.repetition_penalty,
      fields.OptionalNumber("repetition_penalty", kMinRepetitionPenalty, kMaxRepetitionPenalty));
  LOCKSTEP_ASSIGN_OR_RETURN(std::optional<int64_t> top_k,
                            fields.OptionalInt("top_k", 0, kMaxTokenId));
  if (top_k.has_value()) defaults.top_k = static_cast<int>(*top_k);
  LOCKSTEP_ASSIGN_OR_RETURN(bool sample, fields.BoolOr("do_sample", true));
  if (!sample) defaults.temperature = 0;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<GenerationDefaults> ParseGenerationDefaults(std::string_view generation_config_json,
                                                           std::string_view config_json) {
  GenerationDefaults defaults;
  if (!generation_config_json.empty()) {
    LOCKSTEP_RETURN_IF_ERROR(ReadGenerationConfig(generation_config_json, defaults));
  }
  if (!defaults.eos_token_ids.empty() || config_json.empty()) return defaults;
  LOCKSTEP_ASSIGN_OR_RETURN(nlohmann::json json, ParseJsonObject(config_json, "config.json"));
  LOCKSTEP_ASSIGN_OR_RETURN(defaults.eos_token_ids, EndTokens(JsonFields(json, "config.json")));
  return defaults;
}

}  // namespace lockstep::model
