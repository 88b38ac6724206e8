// The messages travel to the template as the JSON that Transformers' users would pass.
#include "coordinator/serve/chat_prompt.h"

#include <string>

#include "absl/status/status.h"
#include "base/status_macros.h"
#include "coordinator/serve/field_error.h"
#include "nlohmann/json.hpp"

namespace lockstep::coordinator {
namespace {

absl::Status CheckShape(const v1::ChatRequest& request, const text::ChatTemplate* chat_template) {
  if (chat_template == nullptr) {
    return absl::FailedPreconditionError(
        "the model has no chat template, neither chat_template.jinja nor \"chat_template\" in "
        "tokenizer_config.json: send a plain prompt instead");
  }
  if (request.messages().empty()) {
    return FieldError(absl::StatusCode::kInvalidArgument, "messages",
                      "messages is empty: at least 1 is needed");
  }
  if (request.generation().prompt_case() != v1::GenerateRequest::PROMPT_NOT_SET) {
    return FieldError(absl::StatusCode::kInvalidArgument, "generation.prompt",
                      "generation has a prompt, but that of a chat is made of its messages: "
                      "leave `text` and `tokens` out");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::GenerateRequest> RenderChat(const v1::ChatRequest& request,
                                               const text::ChatTemplate* chat_template) {
  LOCKSTEP_RETURN_IF_ERROR(CheckShape(request, chat_template));
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();
  for (const v1::ChatMessage& message : request.messages()) {
    messages.push_back({{"role", message.role()}, {"content", message.content()}});
  }
  const bool add_generation_prompt =
      !request.has_add_generation_prompt() || request.add_generation_prompt();
  absl::StatusOr<std::string> prompt = chat_template->Render(messages.dump(), add_generation_prompt,
                                                             request.template_variables_json());
  if (!prompt.ok()) {
    const std::string words(prompt.status().message());
    return FieldError(prompt.status().code(), "messages", words);
  }
  v1::GenerateRequest generation = request.generation();
  generation.set_text(*std::move(prompt));
  if (!generation.has_add_special_tokens()) generation.set_add_special_tokens(false);
  return generation;
}

}  // namespace lockstep::coordinator
