// Range checks, one function per group of fields.
#include "coordinator/serve/request_check.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "coordinator/serve/field_error.h"

namespace lockstep::coordinator {
namespace {

constexpr int kMaxChoices = 128;
constexpr int kMaxAlternatives = 20;
constexpr int kMaxStopStrings = 16;
constexpr int kMaxStopTokenIds = 64;
constexpr int kMaxLogitBiases = 1024;
constexpr float kMaxLogitBias = 100.0F;
// The longest tokens of any vocabulary in use are runs of some 128 spaces.
constexpr int64_t kMaxBytesPerToken = 256;

template <typename T>
absl::Status Illegal(std::string_view field, T value, std::string_view legal) {
  return FieldError(absl::StatusCode::kInvalidArgument, field,
                    absl::StrCat(std::string(field), " = ", value, " is out of range: legal is ",
                                 std::string(legal)));
}

absl::Status TooMany(std::string_view field, int count, int most) {
  return FieldError(
      absl::StatusCode::kInvalidArgument, field,
      absl::StrCat(std::string(field), " has ", count, " entries: at most ", most, " are taken"));
}

/// Written so that NaN is refused.
absl::Status CheckRange(std::string_view field, double value, double least, double most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return Illegal(field, value, absl::StrCat("[", least, ", ", most, "]"));
}

/// The same without the lower end.
absl::Status CheckAbove(std::string_view field, double value, double bound, double most) {
  if (value > bound && value <= most) return absl::OkStatus();
  return Illegal(field, value, absl::StrCat("(", bound, ", ", most, "]"));
}

void FillDefaults(const ServedModel& model, v1::SamplingParams& sampling) {
  const model::GenerationDefaults& defaults = model.defaults;
  if (!sampling.has_temperature()) sampling.set_temperature(defaults.temperature.value_or(1.0));
  if (!sampling.has_top_p()) sampling.set_top_p(defaults.top_p.value_or(1.0));
  if (!sampling.has_top_k()) {
    // A generation_config.json may be shared by models of smaller vocabularies.
    const int64_t top_k = std::min<int64_t>(defaults.top_k.value_or(0), model.vocab_size);
    sampling.set_top_k(static_cast<int32_t>(top_k));
  }
  if (!sampling.has_min_p()) sampling.set_min_p(defaults.min_p.value_or(0.0));
  if (!sampling.has_repetition_penalty()) {
    sampling.set_repetition_penalty(defaults.repetition_penalty.value_or(1.0));
  }
  // Neutral, and set: the engine reads every field.
  sampling.set_presence_penalty(sampling.presence_penalty());
  sampling.set_frequency_penalty(sampling.frequency_penalty());
  sampling.set_min_tokens(sampling.min_tokens());
}

absl::Status CheckLogitBias(const v1::SamplingParams& sampling, int64_t vocab_size) {
  const std::string field = "sampling.logit_bias";
  const int count = static_cast<int>(sampling.logit_bias().size());
  if (count > kMaxLogitBiases) return TooMany(field, count, kMaxLogitBiases);
  for (const auto& [id, bias] : sampling.logit_bias()) {
    if (id < 0 || id >= vocab_size) {
      return FieldError(absl::StatusCode::kInvalidArgument, field,
                        absl::StrCat(field, " names ", id, ", which is no token id: legal is [0, ",
                                     vocab_size - 1, "]"));
    }
    if (!(std::abs(bias) <= kMaxLogitBias)) {
      return Illegal(absl::StrCat(field, "[", id, "]"), bias, "[-100, 100]");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::SamplingParams> ResolveSampling(const v1::SamplingParams& asked,
                                                   const ServedModel& model) {
  v1::SamplingParams sampling = asked;
  FillDefaults(model, sampling);
  LOCKSTEP_RETURN_IF_ERROR(CheckRange("sampling.temperature", sampling.temperature(), 0, 100));
  LOCKSTEP_RETURN_IF_ERROR(CheckAbove("sampling.top_p", sampling.top_p(), 0, 1));
  if (sampling.top_k() < 0 || sampling.top_k() > model.vocab_size) {
    return Illegal("sampling.top_k", sampling.top_k(), absl::StrCat("[0, ", model.vocab_size, "]"));
  }
  LOCKSTEP_RETURN_IF_ERROR(CheckRange("sampling.min_p", sampling.min_p(), 0, 1));
  LOCKSTEP_RETURN_IF_ERROR(
      CheckAbove("sampling.repetition_penalty", sampling.repetition_penalty(), 0, 100));
  LOCKSTEP_RETURN_IF_ERROR(
      CheckRange("sampling.presence_penalty", sampling.presence_penalty(), -2, 2));
  LOCKSTEP_RETURN_IF_ERROR(
      CheckRange("sampling.frequency_penalty", sampling.frequency_penalty(), -2, 2));
  LOCKSTEP_RETURN_IF_ERROR(CheckLogitBias(sampling, model.vocab_size));
  return sampling;
}

absl::StatusOr<std::vector<int32_t>> TokenizePrompt(const v1::GenerateRequest& request,
                                                    const ServedModel& model,
                                                    const text::Tokenizer& tokenizer) {
  LOCKSTEP_RETURN_IF_ERROR(CheckTextBytes(request.text(), model.context_tokens));
  const bool add_special_tokens = !request.has_add_special_tokens() || request.add_special_tokens();
  absl::StatusOr<std::vector<int32_t>> tokens =
      tokenizer.Encode(request.text(), add_special_tokens);
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
      LOCKSTEP_ASSIGN_OR_RETURN(prompt, TokenizePrompt(request, model, tokenizer));
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
    return FieldError(
        absl::StatusCode::kOutOfRange, "max_tokens",
        absl::StrCat("max_tokens = ", max_tokens, " and the prompt's ", prompt_tokens,
                     " tokens make ", max_tokens + prompt_tokens, "; the context of ",
                     context_tokens, " tokens has room for max_tokens of at most ", room));
  }
  return max_tokens;
}

absl::Status CheckMinTokens(int64_t min_tokens, int64_t max_tokens) {
  if (min_tokens >= 0 && min_tokens <= max_tokens) return absl::OkStatus();
  return Illegal("sampling.min_tokens", min_tokens,
                 absl::StrCat("[0, ", max_tokens, "], the upper end being max_tokens"));
}

absl::StatusOr<std::vector<int32_t>> ResolveStopTokens(const v1::GenerateRequest& request,
                                                       const ServedModel& model) {
  if (request.stop_token_ids_size() > kMaxStopTokenIds) {
    return TooMany("stop_token_ids", request.stop_token_ids_size(), kMaxStopTokenIds);
  }
  LOCKSTEP_RETURN_IF_ERROR(CheckTokenIds(
      {request.stop_token_ids().data(), static_cast<size_t>(request.stop_token_ids_size())},
      model.vocab_size, "stop_token_ids"));
  std::vector<int32_t> ids;
  if (!request.ignore_eos()) ids = model.defaults.eos_token_ids;
  for (const int32_t id : request.stop_token_ids()) {
    if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
  }
  return ids;
}

absl::Status CheckStopStrings(const v1::GenerateRequest& request) {
  if (request.stop_size() > kMaxStopStrings) {
    return TooMany("stop", request.stop_size(), kMaxStopStrings);
  }
  for (int i = 0; i < request.stop_size(); ++i) {
    if (!request.stop(i).empty()) continue;
    return FieldError(absl::StatusCode::kInvalidArgument, "stop",
                      absl::StrCat("stop[", i, "] is empty, and every text begins with that"));
  }
  return absl::OkStatus();
}

/// How many alternatives are wanted; nullopt if not even the log-probabilities are.
absl::StatusOr<std::optional<int>> ResolveLogprobs(std::string_view field, bool wanted,
                                                   int32_t alternatives) {
  if (alternatives < 0 || alternatives > kMaxAlternatives) {
    return Illegal(field, alternatives, absl::StrCat("[0, ", kMaxAlternatives, "]"));
  }
  return wanted || alternatives > 0 ? std::optional<int>(alternatives) : std::nullopt;
}

absl::StatusOr<int> ResolveChoices(const v1::GenerateRequest& request) {
  if (!request.has_n()) return 1;
  if (request.n() < 1 || request.n() > kMaxChoices) {
    return Illegal("n", request.n(), absl::StrCat("[1, ", kMaxChoices, "]"));
  }
  return request.n();
}

}  // namespace

absl::Status CheckTextBytes(std::string_view text, int64_t context_tokens) {
  const auto bytes = static_cast<int64_t>(text.size());
  const int64_t most = context_tokens * kMaxBytesPerToken;
  if (bytes <= most) return absl::OkStatus();
  return absl::OutOfRangeError(absl::StrCat("the text has ", bytes, " bytes; the context of ",
                                            context_tokens, " tokens has room for ", most,
                                            " at the very most"));
}

absl::Status CheckTokenIds(std::span<const int32_t> ids, int64_t vocab_size,
                           std::string_view field) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < vocab_size) continue;
    return FieldError(absl::StatusCode::kInvalidArgument, field,
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
  LOCKSTEP_ASSIGN_OR_RETURN(checked.choices, ResolveChoices(request));
  LOCKSTEP_ASSIGN_OR_RETURN(checked.logprobs, ResolveLogprobs("top_logprobs", request.logprobs(),
                                                              request.top_logprobs()));
  LOCKSTEP_ASSIGN_OR_RETURN(checked.prompt_logprobs,
                            ResolveLogprobs("prompt_top_logprobs", request.prompt_logprobs(),
                                            request.prompt_top_logprobs()));
  LOCKSTEP_RETURN_IF_ERROR(CheckStopStrings(request));
  LOCKSTEP_ASSIGN_OR_RETURN(checked.stop_token_ids, ResolveStopTokens(request, model));
  LOCKSTEP_ASSIGN_OR_RETURN(checked.prompt, ResolvePrompt(request, model, tokenizer));
  LOCKSTEP_ASSIGN_OR_RETURN(
      checked.max_tokens,
      ResolveMaxTokens(request, static_cast<int64_t>(checked.prompt.size()), model.context_tokens));
  LOCKSTEP_RETURN_IF_ERROR(CheckMinTokens(checked.sampling.min_tokens(), checked.max_tokens));
  checked.priority = request.priority();
  return checked;
}

}  // namespace lockstep::coordinator
