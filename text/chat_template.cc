// ChatTemplate over the C ABI of text/rust: which template a request means, and its errors.
#include "text/chat_template.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "nlohmann/json.hpp"
#include "text/abi.h"
#include "text/tokenizer_config.h"

namespace lockstep::text {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kDefault = "default";
constexpr std::string_view kToolUse = "tool_use";

// Malformed JSON counts as bringing none: rendering then refuses it with its reason.
bool BringsTools(std::string_view kwargs_json) {
  const Json kwargs = Json::parse(kwargs_json, nullptr, /*allow_exceptions=*/false);
  if (!kwargs.is_object()) return false;
  const auto tools = kwargs.find("tools");
  return tools != kwargs.end() && !tools->is_null();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::Load(
    const std::filesystem::path& model_dir) {
  LOCKSTEP_ASSIGN_OR_RETURN(const TokenizerConfig config, ReadTokenizerConfig(model_dir));
  if (config.chat_templates.empty()) {
    return absl::NotFoundError(
        absl::StrCat(model_dir.string(),
                     " has no chat template: neither chat_template.jinja nor \"chat_template\" in ",
                     "tokenizer_config.json; a model without one takes plain prompts"));
  }
  const std::string tokens = Json(config.special_tokens).dump();
  Templates templates;
  for (const auto& [name, source] : config.chat_templates) {
    LtChatTemplate* handle = nullptr;
    LtString error;
    const LtCode code = lt_chat_template_compile(Bytes(source), source.size(), Bytes(tokens),
                                                 tokens.size(), &handle, &error);
    if (code != LT_OK) {
      return TakeError(code, error,
                       absl::StrCat("the chat template \"", name, "\" of ", model_dir.string()));
    }
    templates[name].reset(handle);
  }
  return std::unique_ptr<ChatTemplate>(new ChatTemplate(std::move(templates)));
}

ChatTemplate::ChatTemplate(Templates templates) : templates_(std::move(templates)) {}

ChatTemplate::~ChatTemplate() = default;

absl::StatusOr<const LtChatTemplate*> ChatTemplate::Pick(std::string_view name,
                                                         std::string_view kwargs_json) const {
  if (name.empty()) {
    name = templates_.contains(kToolUse) && BringsTools(kwargs_json) ? kToolUse : kDefault;
  }
  const auto found = templates_.find(name);
  if (found != templates_.end()) return found->second.get();
  const std::string legal = absl::StrJoin(templates_, ", ", [](std::string* out, const auto& item) {
    absl::StrAppend(out, "\"", item.first, "\"");
  });
  return absl::NotFoundError(
      absl::StrCat("the model has no chat template \"", std::string(name), "\"; it has ", legal));
}

absl::StatusOr<std::string> ChatTemplate::Render(std::string_view messages_json,
                                                 bool add_generation_prompt,
                                                 std::string_view kwargs_json,
                                                 std::string_view name) const {
  LOCKSTEP_ASSIGN_OR_RETURN(const LtChatTemplate* const handle, Pick(name, kwargs_json));
  LtString text;
  LtString error;
  const LtCode code = lt_chat_template_render(handle, Bytes(messages_json), messages_json.size(),
                                              add_generation_prompt, Bytes(kwargs_json),
                                              kwargs_json.size(), &text, &error);
  if (code != LT_OK) return TakeError(code, error, "the chat template");
  return TakeString(text);
}

}  // namespace lockstep::text
