// Messages of a generation to the objects of OpenAI's API: whole responses, and the chunks of a
// stream. Pure.
#ifndef LOCKSTEP_COORDINATOR_HTTP_OPENAI_RESPONSE_H_
#define LOCKSTEP_COORDINATOR_HTTP_OPENAI_RESPONSE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/http/openai_request.h"
#include "nlohmann/json.hpp"
#include "proto/lockstep/v1/inference.pb.h"
#include "text/tokenizer.h"

namespace lockstep::coordinator {

using OrderedJson = nlohmann::ordered_json;

/// What all objects of one response begin with.
struct ResponseIdentity {
  std::string id;       // "cmpl-...", "chatcmpl-..."
  int64_t created = 0;  // seconds since 1970
  std::string model;    // as served
};

/// The prompt of a generation, as far as the response tells of it.
struct PromptPart {
  std::string text;                // with echo
  std::vector<int32_t> token_ids;  // with echo or return_token_ids
  // With echo and logprobs; of tokens 1, 2, ...
  std::vector<float> logprobs;
  std::vector<v1::TokenAlternatives> alternatives;
};

/// One choice, from its first message to its last.
class ChoiceFormat {
 public:
  virtual ~ChoiceFormat() = default;
  /// The message as an entry of "choices". In a stream one message may make several, or none when
  /// it has nothing to show.
  virtual std::vector<OrderedJson> Chunks(const v1::GenerateResponse& message) = 0;
  /// The only message of a response that is told at once.
  virtual OrderedJson Whole(const v1::GenerateResponse& message) = 0;
};

/// `index` is the choice's place in the response. The others must outlive the format; of `prompt`
/// the log-probabilities may come later than this, but no later than the choice's first message.
std::unique_ptr<ChoiceFormat> MakeCompletionFormat(int index, const ResponseOptions& options,
                                                   const text::Tokenizer& tokenizer,
                                                   const PromptPart& prompt);
std::unique_ptr<ChoiceFormat> MakeChatFormat(int index, const ResponseOptions& options,
                                             const text::Tokenizer& tokenizer);

/// Sums of what the choices' last messages say. A prompt counts once, however many choices it has.
class Usage {
 public:
  void Add(const v1::GenerateResponse& message);
  OrderedJson ToJson() const;

 private:
  int64_t prompt_tokens_ = 0;
  int64_t cached_tokens_ = 0;
  int64_t completion_tokens_ = 0;
};

/// A response or chunk with `choices`, of `object` "chat.completion" or alike.
OrderedJson Envelope(const ResponseIdentity& identity, std::string_view object,
                     OrderedJson choices);

/// One server-sent event, or the one that ends a stream.
std::string ServerSentEvent(std::string_view data);
inline constexpr char kStreamEnd[] = "data: [DONE]\n\n";

/// Compact; what is no UTF-8 becomes U+FFFD.
std::string Dump(const OrderedJson& json);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_HTTP_OPENAI_RESPONSE_H_
