// Reads tokenizer_config.json and its satellites in both of the forms in which each entry is
// written: special tokens as strings or objects, chat templates as a string, a list or files.
#include "text/tokenizer_config.h"

#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "nlohmann/json.hpp"
#include "text/abi.h"

namespace lockstep::text {
namespace {

using Json = nlohmann::json;

// The file's text, or an empty one when there is no such file.
absl::StatusOr<std::string> ReadIfPresent(const std::filesystem::path& path) {
  absl::StatusOr<std::string> content = ReadTextFile(path);
  if (absl::IsNotFound(content.status())) return std::string();
  return content;
}

absl::StatusOr<Json> ParseObject(const std::string& text, const std::filesystem::path& path) {
  try {
    Json json = Json::parse(text);
    if (json.is_object()) return json;
    return absl::InvalidArgumentError(
        absl::StrCat(path.string(), ": found a JSON ", json.type_name(), ", expected an object"));
  } catch (const Json::exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(path.string(), " is not valid JSON: ", error.what()));
  }
}

// A special token is written as "<s>" or as {"content": "<s>", ...}.
std::optional<std::string> TokenText(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_object()) return std::nullopt;
  const auto content = value.find("content");
  if (content == value.end() || !content->is_string()) return std::nullopt;
  return content->get<std::string>();
}

void CollectSpecialTokens(const Json& json, std::map<std::string, std::string>& tokens) {
  constexpr std::string_view kSuffix = "_token";
  for (const auto& [key, value] : json.items()) {
    if (!key.ends_with(kSuffix)) continue;
    if (std::optional<std::string> text = TokenText(value)) tokens.emplace(key, *std::move(text));
  }
}

absl::Status CollectTemplates(const Json& json, const std::filesystem::path& path,
                              std::map<std::string, std::string>& templates) {
  const auto entry = json.find("chat_template");
  if (entry == json.end() || entry->is_null()) return absl::OkStatus();
  if (entry->is_string()) {
    templates["default"] = entry->get<std::string>();
    return absl::OkStatus();
  }
  absl::Status malformed = absl::InvalidArgumentError(
      absl::StrCat(path.string(), ": chat_template is neither a string nor a list of objects with ",
                   "the strings \"name\" and \"template\""));
  if (!entry->is_array()) return malformed;
  for (const Json& named : *entry) {
    if (!named.is_object()) return malformed;
    const auto name = named.find("name");
    const auto source = named.find("template");
    if (name == named.end() || source == named.end() || !name->is_string() || !source->is_string())
      return malformed;
    templates[name->get<std::string>()] = source->get<std::string>();
  }
  return absl::OkStatus();
}

absl::Status CollectTemplateFiles(const std::filesystem::path& model_dir,
                                  std::map<std::string, std::string>& templates) {
  LOCKSTEP_ASSIGN_OR_RETURN(std::string source, ReadIfPresent(model_dir / "chat_template.jinja"));
  if (!source.empty()) templates["default"] = std::move(source);
  std::error_code error;
  const std::filesystem::directory_iterator files(model_dir / "additional_chat_templates", error);
  if (error) return absl::OkStatus();
  for (const std::filesystem::directory_entry& file : files) {
    if (file.path().extension() != ".jinja") continue;
    LOCKSTEP_ASSIGN_OR_RETURN(templates[file.path().stem().string()], ReadTextFile(file.path()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerConfig> ReadTokenizerConfig(const std::filesystem::path& model_dir) {
  TokenizerConfig config;
  const std::filesystem::path path = model_dir / "tokenizer_config.json";
  LOCKSTEP_ASSIGN_OR_RETURN(config.json, ReadIfPresent(path));
  if (!config.json.empty()) {
    LOCKSTEP_ASSIGN_OR_RETURN(const Json json, ParseObject(config.json, path));
    CollectSpecialTokens(json, config.special_tokens);
    LOCKSTEP_RETURN_IF_ERROR(CollectTemplates(json, path, config.chat_templates));
  }
  const std::filesystem::path map_path = model_dir / "special_tokens_map.json";
  LOCKSTEP_ASSIGN_OR_RETURN(const std::string map_text, ReadIfPresent(map_path));
  if (!map_text.empty()) {
    LOCKSTEP_ASSIGN_OR_RETURN(const Json map, ParseObject(map_text, map_path));
    CollectSpecialTokens(map, config.special_tokens);
  }
  LOCKSTEP_RETURN_IF_ERROR(CollectTemplateFiles(model_dir, config.chat_templates));
  return config;
}

}  // namespace lockstep::text
