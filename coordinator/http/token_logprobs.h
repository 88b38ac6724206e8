// Log-probabilities of tokens in the two shapes that OpenAI's API has for them. Pure.
#ifndef LOCKSTEP_COORDINATOR_HTTP_TOKEN_LOGPROBS_H_
#define LOCKSTEP_COORDINATOR_HTTP_TOKEN_LOGPROBS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "nlohmann/json.hpp"
#include "proto/lockstep/v1/inference.pb.h"
#include "text/tokenizer.h"

namespace lockstep::coordinator {

/// One position of a text.
struct TokenLogprob {
  int32_t token_id = 0;
  std::optional<float> logprob;                         // the first token of a prompt has none
  const v1::TokenAlternatives* alternatives = nullptr;  // null: only the token itself is told
};

/// The completions' shape: columns "text_offset", "token_logprobs", "tokens", "top_logprobs".
class LogprobColumns {
 public:
  /// The tokenizer must outlive it.
  explicit LogprobColumns(const text::Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void Add(const TokenLogprob& token);
  /// The columns since the last call; offsets, in characters, go on.
  nlohmann::ordered_json Take();

 private:
  const text::Tokenizer& tokenizer_;
  int64_t offset_ = 0;
  nlohmann::ordered_json tokens_ = nlohmann::ordered_json::array();
  nlohmann::ordered_json logprobs_ = nlohmann::ordered_json::array();
  nlohmann::ordered_json top_ = nlohmann::ordered_json::array();
  nlohmann::ordered_json offsets_ = nlohmann::ordered_json::array();
};

/// The chats' shape: an entry of "content", {"token", "logprob", "bytes", "top_logprobs"}.
nlohmann::ordered_json LogprobEntry(const text::Tokenizer& tokenizer, const TokenLogprob& token);

/// The token by itself, special ones included; "\ufffd" for a part of a character.
std::string TokenText(const text::Tokenizer& tokenizer, int32_t token_id);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_HTTP_TOKEN_LOGPROBS_H_
