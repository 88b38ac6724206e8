// Range checks, one function per group of fields.
#include "coordinator/serve/request_check.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace lockstep::coordinator {
namespace {

template <typename T>
absl::Status Illegal(std::string_view field, T value, std::string_view legal) {
  return absl::InvalidArgumentError(absl::StrCat(
      std::string(field), " = ", value, " is out of range: legal is ", std::string(legal)));
}

absl::StatusOr<v1::SamplingParams> ResolveSampling(const v1::SamplingParams& asked,
                                                   const ServedModel& model) {
  v1::SamplingParams sampling = asked;
  const model::GenerationDefaults& defaults = model.defaults;
  if (!sampling.has_temperature()) sampling.set_temperature(defaults.temperature.value_or(1.0));
  if (!sampling.has_top_p()) sampling.set_top_p(defaults.top_p.value_or(1.0));
  if (!sampling.has_top_k()) {
    // A generation_config.json may be shared by models of smaller vocabularies.
    const int64_t top_k = std::min<int64_t>(defaults.top_k.value_or(0), model.vocab_size);
    sampling.set_top_k(static_cast<int32_t>(top_k));
  }
  // Written so that NaN is refused.
  if (!(sampling.temperature() >= 0.0 && sampling.temperature() <= 100.0)) {
    return Illegal("sampling.temperature", sampling.temperature(), "[0, 100]");
  }
  if (!(sampling.top_p() > 0.0 && sampling.top_p() <= 1.0)) {
    return Illegal("sampling.top_p", sampling.top_p(), "(0, 1]");
  }
  if (sampling.top_k() < 0 || sampling.top_k() > model.vocab_size) {
    return Illegal("sampling.top_k", sampling.top_k(), absl::StrCat("[0, ", model.vocab_size, "]"));
  }
  return sampling;
}

absl::StatusOr<std::vector<int32_t>> TokenizePrompt(const std::string& text,
                                                    const ServedModel& model,
                                                    const text::Tokenizer& tokenizer) {
  absl::StatusOr<std::vector<int32_t>> tokens = tokenizer.Encode(text, /*add_special_tokens=*/true);
  if (!tokens.ok()) {
    return absl::Status(tokens.status().code(), absl::StrCat("text: ", tokens.status().message()));
  }
  // A tokenizer.json with more tokens than the model has rows for them.
  LOCKSTEP_RETURN_IF_ERROR(CheckTokenIds(*tokens, model.vocab_size, "text, tokenized,"));
  return tokens;
}

absl::StatusOr<std::vector<int32_t>> ResolvePrompt(const v1::GenerateRequest& request,
                                                   const ServedModel& model,
                                                   const text::Tokenizer& tokenizer) {
  std::vector<int32_t> prompt;
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kText: {
      LOCKSTEP_ASSIGN_OR_RETURN(prompt, TokenizePrompt(request.text(), model, tokenizer));
      break;
    }
    case v1::GenerateRequest::kTokens:
      prompt.assign(request.tokens().ids().begin(), request.tokens().ids().end());
      LOCKSTEP_RETURN_IF_ERROR(CheckTokenIds(prompt, model.vocab_size, "tokens.ids"));
      break;
    case v1::GenerateRequest::PROMPT_NOT_SET:
      return absl::InvalidArgumentError("the prompt is missing: set one of `text` and `tokens`");
  }
  if (prompt.empty()) {
    return absl::InvalidArgumentError(
        "the prompt has no tokens: at least 1 is needed, and this model's tokenizer adds none");
  }
  return prompt;
}

absl::StatusOr<int64_t> ResolveMaxTokens(const v1::GenerateRequest& request, int64_t prompt_tokens,
                                         int64_t context_tokens) {
  const int64_t room = context_tokens - prompt_tokens;
  if (room < 1) {
    return absl::OutOfRangeError(
        absl::StrCat("the prompt has ", prompt_tokens, " tokens; the context of ", context_tokens,
                     " tokens has room for a prompt of at most ", context_tokens - 1));
  }
  if (!request.has_max_tokens()) return room;
  const int64_t max_tokens = request.max_tokens();
  if (max_tokens < 1) return Illegal("max_tokens", max_tokens, absl::StrCat("[1, ", room, "]"));
  if (max_tokens > room) {
    return absl::OutOfRangeError(
        absl::StrCat("max_tokens = ", max_tokens, " and the prompt's ", prompt_tokens,
                     " tokens make ", max_tokens + prompt_tokens, "; the context of ",
                     context_tokens, " tokens has room for max_tokens of at most ", room));
  }
  return max_tokens;
}

}  // namespace

absl::Status CheckTokenIds(std::span<const int32_t> ids, int64_t vocab_size,
                           std::string_view field) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < vocab_size) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(std::string(field), " has ", ids[i], " at index ", i,
                     ", which is no token id: legal is [0, ", vocab_size - 1, "]"));
  }
  return absl::OkStatus();
}

absl::StatusOr<EngineRequest> CheckGenerateRequest(const v1::GenerateRequest& request,
                                                   const ServedModel& model,
                                                   const text::Tokenizer& tokenizer) {
  EngineRequest checked;
  LOCKSTEP_ASSIGN_OR_RETURN(checked.sampling, ResolveSampling(request.sampling(), model));
  LOCKSTEP_ASSIGN_OR_RETURN(checked.prompt, ResolvePrompt(request, model, tokenizer));
  LOCKSTEP_ASSIGN_OR_RETURN(
      checked.max_tokens,
      ResolveMaxTokens(request, static_cast<int64_t>(checked.prompt.size()), model.context_tokens));
  if (!request.ignore_eos()) checked.stop_token_ids = model.defaults.eos_token_ids;
  if (request.logprobs()) checked.logprobs = 0;
  if (request.prompt_logprobs()) checked.prompt_logprobs = 0;
  return checked;
}

}  // namespace lockstep::coordinator
