// JSON has no infinity: like other servers, ours says -9999 for what cannot be.
#include "coordinator/http/token_logprobs.h"

#include <algorithm>
#include <span>
#include <utility>

#include "absl/status/statusor.h"

namespace lockstep::coordinator {
namespace {

using Json = nlohmann::ordered_json;

constexpr float kLeastLogprob = -9999.0F;

float Shown(float logprob) { return std::max(logprob, kLeastLogprob); }

Json Entry(const text::Tokenizer& tokenizer, int32_t token_id, float logprob) {
  const std::string token = TokenText(tokenizer, token_id);
  Json bytes = Json::array();
  for (const char c : token) bytes.push_back(static_cast<uint8_t>(c));
  return {{"token", token}, {"logprob", Shown(logprob)}, {"bytes", std::move(bytes)}};
}

int64_t Characters(const std::string& utf8) {
  return std::count_if(utf8.begin(), utf8.end(),
                       [](char c) { return (static_cast<uint8_t>(c) & 0xc0) != 0x80; });
}

}  // namespace

void LogprobColumns::Add(const TokenLogprob& token) {
  const std::string text = TokenText(tokenizer_, token.token_id);
  tokens_.push_back(text);
  offsets_.push_back(offset_);
  offset_ += Characters(text);
  if (!token.logprob) {
    logprobs_.push_back(nullptr);
    top_.push_back(nullptr);
    return;
  }
  logprobs_.push_back(Shown(*token.logprob));
  Json top = Json::object();
  if (token.alternatives != nullptr) {
    for (int i = 0; i < token.alternatives->token_ids_size(); ++i) {
      // The most probable of those that read the same.
      top.emplace(TokenText(tokenizer_, token.alternatives->token_ids(i)),
                  Shown(token.alternatives->logprobs(i)));
    }
  }
  top.emplace(text, Shown(*token.logprob));
  top_.push_back(std::move(top));
}

Json LogprobColumns::Take() {
  Json columns = {{"text_offset", std::move(offsets_)},
                  {"token_logprobs", std::move(logprobs_)},
                  {"tokens", std::move(tokens_)},
                  {"top_logprobs", std::move(top_)}};
  offsets_ = logprobs_ = tokens_ = top_ = Json::array();
  return columns;
}

Json LogprobEntry(const text::Tokenizer& tokenizer, const TokenLogprob& token) {
  Json entry = Entry(tokenizer, token.token_id, token.logprob.value_or(0));
  Json top = Json::array();
  if (token.alternatives != nullptr) {
    for (int i = 0; i < token.alternatives->token_ids_size(); ++i) {
      top.push_back(
          Entry(tokenizer, token.alternatives->token_ids(i), token.alternatives->logprobs(i)));
    }
  }
  entry["top_logprobs"] = std::move(top);
  return entry;
}

std::string TokenText(const text::Tokenizer& tokenizer, int32_t token_id) {
  const absl::StatusOr<std::string> text =
      tokenizer.Decode(std::span(&token_id, 1), /*skip_special_tokens=*/false);
  return text.value_or(std::string());
}

}  // namespace lockstep::coordinator
