// The answer to one completion or chat call: one engine request per prompt on one side, the parts
// of one HTTP response on the other.
#ifndef LOCKSTEP_COORDINATOR_HTTP_GENERATION_H_
#define LOCKSTEP_COORDINATOR_HTTP_GENERATION_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "coordinator/engine/engine_request.h"
#include "coordinator/http/http_message.h"
#include "coordinator/http/openai_request.h"
#include "coordinator/http/openai_response.h"
#include "coordinator/serve/request_output.h"
#include "coordinator/serve/serving_context.h"
#include "coordinator/serve/text_output.h"
#include "proto/lockstep/v1/inference.pb.h"

namespace lockstep::coordinator {

/// Which of OpenAI's two kinds of objects the response is made of.
enum class ResponseKind { kCompletion, kChat };

/// Tokens gather as they come (at most max_tokens of each choice) until a part is pulled; text is
/// decoded by whoever pulls. A response that does not stream is one part; a stream begins at once,
/// with a head and no body. What fails before the first part becomes its HTTP status, what fails
/// later an event of the stream.
///
/// Lifetime: the session and the engine hold it.
/// Thread-safety: as PendingResponse says; the engine's updates may come from any thread.
class Generation final : public PendingResponse, public std::enable_shared_from_this<Generation> {
 public:
  /// Checks and submits all of `requests`, or none: the error is the first one's. Takes time in
  /// proportion to the prompts. What `context` refers to must outlive the generation.
  static absl::StatusOr<std::shared_ptr<PendingResponse>> Start(
      const std::vector<v1::GenerateRequest>& requests, ResponseKind kind,
      const ResponseOptions& options, ResponseIdentity identity, const ServingContext& context);

  Generation(ResponseKind kind, const ResponseOptions& options, ResponseIdentity identity,
             const ServingContext& context);

  void OnReady(std::function<void()> wake) override ABSL_LOCKS_EXCLUDED(mutex_);
  std::optional<ResponsePart> Next() override ABSL_LOCKS_EXCLUDED(mutex_);
  void Close() override ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  class Sink;

  /// What the engine fills, guarded by mutex_.
  struct Incoming {
    Incoming(int choices, const text::Tokenizer& tokenizer, const TextOptions& options)
        : output(choices, tokenizer, options) {}
    RequestOutput output;
    bool counted = false;  // among complete_prompts_
  };
  /// The rest of a prompt, which belongs to Next.
  struct Prompt {
    TextOptions text_options;
    std::optional<MessageText> text;
    PromptPart part;
    std::vector<std::unique_ptr<ChoiceFormat>> formats;
    std::optional<RequestId> id;  // set by Start
  };
  using Message = std::pair<size_t, v1::GenerateResponse>;  // with its prompt's index

  absl::StatusOr<std::vector<EngineRequest>> Check(
      const std::vector<v1::GenerateRequest>& requests) const;
  absl::Status AddPrompt(const v1::GenerateRequest& request, const EngineRequest& checked);
  SinkVerdict OnUpdate(size_t prompt, RequestUpdate update) ABSL_LOCKS_EXCLUDED(mutex_);

  /// What there is to tell: messages; the failure, if there is one; whether they are the last.
  struct News {
    std::vector<Message> messages;
    absl::Status failure;
    bool last = false;
  };
  News TakeNews() ABSL_LOCKS_EXCLUDED(mutex_);

  ResponsePart WholePart(std::vector<Message> messages);
  ResponsePart StreamPart(News news);
  std::string Events(Message& message);
  std::string ChunkEvent(OrderedJson choices, OrderedJson usage);
  /// The text, and what the prompt has to know of the message.
  ChoiceFormat& Prepare(Message& message);

  const ResponseKind kind_;
  const ResponseOptions options_;
  const ResponseIdentity identity_;
  const ServingContext context_;
  std::vector<std::unique_ptr<Prompt>> prompts_;
  Usage usage_;
  bool begun_ = false;
  bool prompt_told_ = false;

  absl::Mutex mutex_;
  std::vector<std::unique_ptr<Incoming>> incoming_ ABSL_GUARDED_BY(mutex_);
  size_t complete_prompts_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  std::function<void()> wake_ ABSL_GUARDED_BY(mutex_);
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_HTTP_GENERATION_H_
