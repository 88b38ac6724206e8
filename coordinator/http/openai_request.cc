// Field by field; what the two kinds of calls share comes first.
#include "coordinator/http/openai_request.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "coordinator/http/json_body.h"

namespace lockstep::coordinator {
namespace {

using Json = nlohmann::json;

// OpenAI's default of a completion; a chat may fill the context.
constexpr int32_t kDefaultCompletionTokens = 16;

void ReadLogitBias(FieldReader& fields, v1::SamplingParams& sampling) {
  const Json* biases = fields.Any("logit_bias");
  if (biases == nullptr) return;
  if (!biases->is_object()) {
    return fields.Fail("logit_bias", "must be an object of token ids and numbers");
  }
  for (const auto& [key, bias] : biases->items()) {
    int32_t id = 0;
    if (!absl::SimpleAtoi(key, &id) || !bias.is_number()) {
      return fields.Fail("logit_bias", absl::StrCat("has the entry \"", key.substr(0, 50),
                                                    "\": keys are token ids, values numbers"));
    }
    (*sampling.mutable_logit_bias())[id] = bias.get<float>();
  }
}

void ReadSampling(FieldReader& fields, v1::SamplingParams& sampling) {
  if (auto value = fields.Number("temperature")) sampling.set_temperature(*value);
  if (auto value = fields.Number("top_p")) sampling.set_top_p(*value);
  // vLLM's word for all of them is -1.
  if (auto value = fields.Int32("top_k")) sampling.set_top_k(*value == -1 ? 0 : *value);
  if (auto value = fields.Number("min_p")) sampling.set_min_p(*value);
  if (auto value = fields.Seed("seed")) sampling.set_seed(*value);
  if (auto value = fields.Number("repetition_penalty")) sampling.set_repetition_penalty(*value);
  if (auto value = fields.Number("presence_penalty")) sampling.set_presence_penalty(*value);
  if (auto value = fields.Number("frequency_penalty")) sampling.set_frequency_penalty(*value);
  if (auto value = fields.Int32("min_tokens")) sampling.set_min_tokens(*value);
  ReadLogitBias(fields, sampling);
}

/// A string or a list of them.
void ReadStop(FieldReader& fields, v1::GenerateRequest& request) {
  const Json* stop = fields.Any("stop");
  if (stop == nullptr) return;
  const Json list = stop->is_array() ? *stop : Json::array({*stop});
  for (const Json& entry : list) {
    if (!entry.is_string()) return fields.Fail("stop", "must be a string or a list of strings");
    request.add_stop(entry.get<std::string>());
  }
}

/// What both kinds of calls have, but for max_tokens, prompt and log-probabilities.
void ReadGeneration(FieldReader& fields, v1::GenerateRequest& request) {
  ReadSampling(fields, *request.mutable_sampling());
  ReadStop(fields, request);
  if (auto value = fields.Int32("n")) request.set_n(*value);
  if (auto value = fields.Bool("ignore_eos")) request.set_ignore_eos(*value);
  if (auto value = fields.Bool("skip_special_tokens")) request.set_skip_special_tokens(*value);
  if (auto value = fields.Bool("add_special_tokens")) request.set_add_special_tokens(*value);
  if (auto value = fields.Bool("include_stop_str_in_output")) {
    request.set_include_stop_in_output(*value);
  }
  if (auto value = fields.Int32("priority")) request.set_priority(*value);
  if (auto ids = fields.Int32s("stop_token_ids")) {
    request.mutable_stop_token_ids()->Assign(ids->begin(), ids->end());
  }
}

void ReadStreamOptions(FieldReader& fields, ResponseOptions& response) {
  const Json* options = fields.Any("stream_options");
  if (options == nullptr) return;
  if (!response.stream) return fields.Fail("stream_options", "is only for \"stream\": true");
  if (!options->is_object()) return fields.Fail("stream_options", "must be an object");
  FieldReader inner(*options, "stream_options.");
  response.include_usage = inner.BoolOr("include_usage", false);
  if (const absl::Status status = inner.Finish(); !status.ok()) {
    fields.Fail("stream_options", absl::StrCat("is not right: ", status.message()));
  }
}

std::string ReadModelAndResponse(FieldReader& fields, ResponseOptions& response) {
  response.stream = fields.BoolOr("stream", false);
  ReadStreamOptions(fields, response);
  response.return_token_ids = fields.BoolOr("return_token_ids", false);
  // Names the end user for the operator's statistics; means nothing to the output.
  fields.String("user");
  return fields.String("model").value_or("");
}

void SetTokens(v1::GenerateRequest& request, const std::vector<int32_t>& ids) {
  request.mutable_tokens()->mutable_ids()->Assign(ids.begin(), ids.end());
}

/// A text, a list of texts, a list of token ids, or a list of such lists.
void ReadPrompts(FieldReader& fields, std::vector<v1::GenerateRequest>& prompts) {
  constexpr char kShapes[] =
      "must be a string, a list of strings, a list of token ids or a list of lists of token ids, "
      "none of them empty";
  const Json* prompt = fields.Any("prompt");
  if (prompt == nullptr) return fields.Fail("prompt", "is missing");
  if (prompt->is_string()) {
    prompts.emplace_back().set_text(prompt->get<std::string>());
    return;
  }
  if (!prompt->is_array() || prompt->empty()) return fields.Fail("prompt", kShapes);
  if (prompt->front().is_number()) {
    const auto ids = AsInt32s(*prompt);
    return ids ? SetTokens(prompts.emplace_back(), *ids) : fields.Fail("prompt", kShapes);
  }
  for (const Json& entry : *prompt) {
    const auto ids = AsInt32s(entry);
    if (entry.is_string()) {
      prompts.emplace_back().set_text(entry.get<std::string>());
    } else if (ids && !ids->empty()) {
      SetTokens(prompts.emplace_back(), *ids);
    } else {
      return fields.Fail("prompt", kShapes);
    }
  }
}

void ReadCompletionLength(FieldReader& fields, v1::GenerateRequest& request,
                          ResponseOptions& response) {
  const int32_t max_tokens = fields.Int32("max_tokens").value_or(kDefaultCompletionTokens);
  response.echo = fields.BoolOr("echo", false);
  response.only_echo = response.echo && max_tokens == 0;
  // The engine generates at least one token, which is then not told.
  request.set_max_tokens(response.only_echo ? 1 : max_tokens);
}

void ReadCompletionLogprobs(FieldReader& fields, v1::GenerateRequest& request,
                            ResponseOptions& response) {
  const std::optional<int32_t> alternatives = fields.Int32("logprobs");
  if (!alternatives) return;
  response.logprobs = true;
  request.set_logprobs(true);
  request.set_top_logprobs(*alternatives);
  if (!response.echo) return;
  request.set_prompt_logprobs(true);
  request.set_prompt_top_logprobs(*alternatives);
}

/// OpenAI draws best_of outputs and gives the best n; without a choice to make they are the same.
void ReadBestOf(FieldReader& fields, const v1::GenerateRequest& request) {
  const std::optional<int32_t> best_of = fields.Int32("best_of");
  if (best_of && *best_of != (request.has_n() ? request.n() : 1)) {
    fields.Fail("best_of", "is not supported unless it equals n");
  }
}

/// A text, or a list of parts of which all are texts.
std::optional<std::string> ContentOf(const Json& content) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) return std::nullopt;
  std::string text;
  for (const Json& part : content) {
    if (!part.is_object() || part.size() != 2 || part.value("type", Json()) != "text") {
      return std::nullopt;
    }
    const auto words = part.find("text");
    if (words == part.end() || !words->is_string()) return std::nullopt;
    if (!text.empty()) text += '\n';
    text += words->get<std::string>();
  }
  return text;
}

absl::Status ReadMessage(const Json& message, const std::string& where, v1::ChatMessage& out) {
  FieldReader fields(message, where);
  const std::optional<std::string> role = fields.String("role");
  if (!role) fields.Fail("role", "is missing");
  out.set_role(role.value_or(""));
  if (const Json* content = fields.Any("content")) {
    const std::optional<std::string> text = ContentOf(*content);
    if (!text) fields.Fail("content", "must be a string or a list of {\"type\": \"text\"} parts");
    out.set_content(text.value_or(""));
  } else {
    fields.Fail("content", "is missing");
  }
  return fields.Finish();
}

void ReadConversation(FieldReader& fields, v1::ChatRequest& chat) {
  if (auto value = fields.Bool("add_generation_prompt")) chat.set_add_generation_prompt(*value);
  if (const Json* variables = fields.Any("chat_template_kwargs")) {
    if (!variables->is_object()) return fields.Fail("chat_template_kwargs", "must be an object");
    chat.set_template_variables_json(variables->dump());
  }
}

absl::Status ReadMessages(FieldReader& fields, v1::ChatRequest& chat) {
  const Json* messages = fields.Any("messages");
  if (messages == nullptr || !messages->is_array() || messages->empty()) {
    fields.Fail("messages", "must be a list of at least one message");
    return absl::OkStatus();
  }
  for (size_t i = 0; i < messages->size(); ++i) {
    const Json& message = (*messages)[i];
    if (!message.is_object()) {
      fields.Fail("messages", absl::StrCat("has an entry at index ", i, " that is no object"));
      return absl::OkStatus();
    }
    LOCKSTEP_RETURN_IF_ERROR(
        ReadMessage(message, absl::StrCat("messages[", i, "]."), *chat.add_messages()));
  }
  return absl::OkStatus();
}

void ReadChatLogprobs(FieldReader& fields, v1::GenerateRequest& request,
                      ResponseOptions& response) {
  response.logprobs = fields.BoolOr("logprobs", false);
  request.set_logprobs(response.logprobs);
  const std::optional<int32_t> alternatives = fields.Int32("top_logprobs");
  if (!alternatives) return;
  if (!response.logprobs) return fields.Fail("top_logprobs", "is only for \"logprobs\": true");
  request.set_top_logprobs(*alternatives);
}

}  // namespace

absl::StatusOr<CompletionCall> ParseCompletionCall(const Json& body) {
  FieldReader fields(body);
  CompletionCall call;
  call.model = ReadModelAndResponse(fields, call.response);
  ReadPrompts(fields, call.generations);
  v1::GenerateRequest common;
  ReadGeneration(fields, common);
  ReadCompletionLength(fields, common, call.response);
  ReadCompletionLogprobs(fields, common, call.response);
  ReadBestOf(fields, common);
  LOCKSTEP_RETURN_IF_ERROR(fields.Finish());
  for (v1::GenerateRequest& generation : call.generations) generation.MergeFrom(common);
  return call;
}

absl::StatusOr<ChatCall> ParseChatCall(const Json& body) {
  FieldReader fields(body);
  ChatCall call;
  call.model = ReadModelAndResponse(fields, call.response);
  LOCKSTEP_RETURN_IF_ERROR(ReadMessages(fields, call.chat));
  ReadConversation(fields, call.chat);
  v1::GenerateRequest& generation = *call.chat.mutable_generation();
  ReadGeneration(fields, generation);
  ReadChatLogprobs(fields, generation, call.response);
  const std::optional<int32_t> old_name = fields.Int32("max_tokens");
  const std::optional<int32_t> max_tokens = fields.Int32("max_completion_tokens");
  if (max_tokens || old_name) generation.set_max_tokens(max_tokens ? *max_tokens : *old_name);
  LOCKSTEP_RETURN_IF_ERROR(fields.Finish());
  return call;
}

absl::StatusOr<TokenizeCall> ParseTokenizeCall(const Json& body) {
  FieldReader fields(body);
  TokenizeCall call;
  call.model = fields.String("model").value_or("");
  call.prompt = fields.String("prompt");
  call.add_special_tokens = fields.Bool("add_special_tokens");
  if (fields.Any("messages") != nullptr) {
    if (call.prompt) fields.Fail("prompt", "and messages exclude each other");
    LOCKSTEP_RETURN_IF_ERROR(ReadMessages(fields, call.chat));
    ReadConversation(fields, call.chat);
  } else if (!call.prompt) {
    fields.Fail("prompt", "is missing, and so is messages");
  }
  LOCKSTEP_RETURN_IF_ERROR(fields.Finish());
  return call;
}

absl::StatusOr<DetokenizeCall> ParseDetokenizeCall(const Json& body) {
  FieldReader fields(body);
  DetokenizeCall call;
  call.model = fields.String("model").value_or("");
  std::optional<std::vector<int32_t>> tokens = fields.Int32s("tokens");
  if (!tokens) fields.Fail("tokens", "is missing");
  call.tokens = std::move(tokens).value_or(std::vector<int32_t>());
  LOCKSTEP_RETURN_IF_ERROR(fields.Finish());
  return call;
}

}  // namespace lockstep::coordinator
