// Bodies of OpenAI's API to the canonical requests that gRPC's clients send too. Pure.
//
// Field names and meanings are OpenAI's, and for the extensions those that vLLM's server has. What
// is not supported is refused by its name. Ranges are not checked here but in request_check.h.
#ifndef LOCKSTEP_COORDINATOR_HTTP_OPENAI_REQUEST_H_
#define LOCKSTEP_COORDINATOR_HTTP_OPENAI_REQUEST_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "proto/lockstep/v1/inference.pb.h"

namespace lockstep::coordinator {

/// What concerns the answer and not the generation.
struct ResponseOptions {
  bool stream = false;
  bool include_usage = false;  // in a last event of the stream
  bool echo = false;           // completions: the prompt before the output
  bool only_echo = false;      // completions: and nothing else (max_tokens = 0)
  bool logprobs = false;
  bool return_token_ids = false;
};

struct CompletionCall {
  std::string model;                             // empty: whatever is served
  std::vector<v1::GenerateRequest> generations;  // one per prompt, at least one
  ResponseOptions response;
};

struct ChatCall {
  std::string model;
  v1::ChatRequest chat;
  ResponseOptions response;
};

/// What /tokenize takes: a text, or a conversation.
struct TokenizeCall {
  std::string model;
  std::optional<std::string> prompt;
  v1::ChatRequest chat;  // without a prompt
  std::optional<bool> add_special_tokens;
};

struct DetokenizeCall {
  std::string model;
  std::vector<int32_t> tokens;
};

// InvalidArgument errors name the field (field_error.h).
absl::StatusOr<CompletionCall> ParseCompletionCall(const nlohmann::json& body);
absl::StatusOr<ChatCall> ParseChatCall(const nlohmann::json& body);
absl::StatusOr<TokenizeCall> ParseTokenizeCall(const nlohmann::json& body);
absl::StatusOr<DetokenizeCall> ParseDetokenizeCall(const nlohmann::json& body);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_HTTP_OPENAI_REQUEST_H_
