// Completions and chats differ in where the text stands and in the shape of log-probabilities.
#include "coordinator/http/openai_response.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/http/token_logprobs.h"

namespace lockstep::coordinator {
namespace {

OrderedJson FinishReason(const v1::GenerateResponse& message) {
  if (!message.has_finish()) return nullptr;
  return message.finish().reason() == v1::FINISH_REASON_STOP ? "stop" : "length";
}

/// An extension that vLLM has too: the stop string, or the id of the end token.
OrderedJson StopReason(const v1::GenerateResponse& message) {
  switch (message.finish().stopped_by_case()) {
    case v1::Finish::kStop:
      return message.finish().stop();
    case v1::Finish::kStopTokenId:
      return message.finish().stop_token_id();
    case v1::Finish::STOPPED_BY_NOT_SET:
      break;
  }
  return nullptr;
}

TokenLogprob GeneratedToken(const v1::GenerateResponse& message, int i) {
  TokenLogprob token{.token_id = message.token_ids(i)};
  if (i < message.logprobs_size()) token.logprob = message.logprobs(i);
  if (i < message.top_logprobs_size()) token.alternatives = &message.top_logprobs(i);
  return token;
}

OrderedJson TokenIds(const v1::GenerateResponse& message) {
  return std::vector<int32_t>(message.token_ids().begin(), message.token_ids().end());
}

class CompletionFormat final : public ChoiceFormat {
 public:
  CompletionFormat(int index, const ResponseOptions& options, const text::Tokenizer& tokenizer,
                   const PromptPart& prompt)
      : index_(index), options_(options), prompt_(prompt), columns_(tokenizer) {}

  std::vector<OrderedJson> Chunks(const v1::GenerateResponse& message) override {
    const bool shows_tokens =
        !message.token_ids().empty() && (options_.logprobs || options_.return_token_ids);
    if (begun_ && message.text().empty() && !message.has_finish() && !shows_tokens) return {};
    return {Whole(message)};
  }

  OrderedJson Whole(const v1::GenerateResponse& message) override {
    const bool first = !std::exchange(begun_, true);
    OrderedJson choice = {{"index", index_}, {"text", Text(message, first)}};
    choice["logprobs"] = options_.logprobs ? Logprobs(message, first) : nullptr;
    choice["finish_reason"] = FinishReason(message);
    choice["stop_reason"] = StopReason(message);
    if (options_.return_token_ids) {
      if (first) choice["prompt_token_ids"] = prompt_.token_ids;
      choice["token_ids"] = options_.only_echo ? OrderedJson::array() : TokenIds(message);
    }
    return choice;
  }

 private:
  std::string Text(const v1::GenerateResponse& message, bool first) const {
    return absl::StrCat(first && options_.echo ? prompt_.text : "",
                        options_.only_echo ? "" : message.text());
  }

  OrderedJson Logprobs(const v1::GenerateResponse& message, bool first) {
    if (first && options_.echo) AddPrompt();
    if (!options_.only_echo) {
      for (int i = 0; i < message.token_ids_size(); ++i) columns_.Add(GeneratedToken(message, i));
    }
    return columns_.Take();
  }

  void AddPrompt() {
    for (size_t i = 0; i < prompt_.token_ids.size(); ++i) {
      TokenLogprob token{.token_id = prompt_.token_ids[i]};
      if (i > 0 && i <= prompt_.logprobs.size()) token.logprob = prompt_.logprobs[i - 1];
      if (i > 0 && i <= prompt_.alternatives.size()) {
        token.alternatives = &prompt_.alternatives[i - 1];
      }
      columns_.Add(token);
    }
  }

  const int index_;
  const ResponseOptions& options_;
  const PromptPart& prompt_;
  LogprobColumns columns_;
  bool begun_ = false;
};

class ChatFormat final : public ChoiceFormat {
 public:
  ChatFormat(int index, const ResponseOptions& options, const text::Tokenizer& tokenizer)
      : index_(index), options_(options), tokenizer_(tokenizer) {}

  std::vector<OrderedJson> Chunks(const v1::GenerateResponse& message) override {
    std::vector<OrderedJson> chunks;
    if (!std::exchange(begun_, true)) {
      chunks.push_back({{"index", index_},
                        {"delta", {{"role", "assistant"}, {"content", ""}}},
                        {"logprobs", nullptr},
                        {"finish_reason", nullptr}});
    }
    const bool shows_tokens =
        !message.token_ids().empty() && (options_.logprobs || options_.return_token_ids);
    if (message.text().empty() && !message.has_finish() && !shows_tokens) return chunks;
    OrderedJson delta = OrderedJson::object();
    if (!message.text().empty()) delta["content"] = message.text();
    chunks.push_back(Choice(message, "delta", std::move(delta)));
    return chunks;
  }

  OrderedJson Whole(const v1::GenerateResponse& message) override {
    return Choice(message, "message", {{"role", "assistant"}, {"content", message.text()}});
  }

 private:
  OrderedJson Choice(const v1::GenerateResponse& message, const char* place,
                     OrderedJson content) const {
    OrderedJson choice = {{"index", index_}, {place, std::move(content)}};
    choice["logprobs"] = options_.logprobs ? Logprobs(message) : nullptr;
    choice["finish_reason"] = FinishReason(message);
    if (message.has_finish()) choice["stop_reason"] = StopReason(message);
    if (options_.return_token_ids) choice["token_ids"] = TokenIds(message);
    return choice;
  }

  OrderedJson Logprobs(const v1::GenerateResponse& message) const {
    OrderedJson content = OrderedJson::array();
    for (int i = 0; i < message.token_ids_size(); ++i) {
      content.push_back(LogprobEntry(tokenizer_, GeneratedToken(message, i)));
    }
    return {{"content", std::move(content)}};
  }

  const int index_;
  const ResponseOptions& options_;
  const text::Tokenizer& tokenizer_;
  bool begun_ = false;
};

}  // namespace

std::unique_ptr<ChoiceFormat> MakeCompletionFormat(int index, const ResponseOptions& options,
                                                   const text::Tokenizer& tokenizer,
                                                   const PromptPart& prompt) {
  return std::make_unique<CompletionFormat>(index, options, tokenizer, prompt);
}

std::unique_ptr<ChoiceFormat> MakeChatFormat(int index, const ResponseOptions& options,
                                             const text::Tokenizer& tokenizer) {
  return std::make_unique<ChatFormat>(index, options, tokenizer);
}

void Usage::Add(const v1::GenerateResponse& message) {
  if (!message.has_finish()) return;
  completion_tokens_ += message.finish().completion_tokens();
  if (message.choice() != 0) return;
  prompt_tokens_ += message.finish().prompt_tokens();
  cached_tokens_ += message.finish().cached_tokens();
}

OrderedJson Usage::ToJson() const {
  return {{"prompt_tokens", prompt_tokens_},
          {"total_tokens", prompt_tokens_ + completion_tokens_},
          {"completion_tokens", completion_tokens_},
          {"prompt_tokens_details", {{"cached_tokens", cached_tokens_}}}};
}

OrderedJson Envelope(const ResponseIdentity& identity, std::string_view object,
                     OrderedJson choices) {
  return {{"id", identity.id},
          {"object", object},
          {"created", identity.created},
          {"model", identity.model},
          {"choices", std::move(choices)}};
}

std::string ServerSentEvent(std::string_view data) {
  return absl::StrCat("data: ", std::string(data), "\n\n");
}

std::string Dump(const OrderedJson& json) {
  return json.dump(-1, ' ', /*ensure_ascii=*/false, OrderedJson::error_handler_t::replace);
}

}  // namespace lockstep::coordinator
