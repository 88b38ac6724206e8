// Updates in, under the mutex; parts out, formatted outside of it.
#include "coordinator/http/generation.h"

#include <span>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "coordinator/http/api_error.h"
#include "coordinator/serve/field_error.h"
#include "coordinator/serve/request_check.h"

namespace lockstep::coordinator {
namespace {

constexpr char kEventStream[] = "text/event-stream; charset=utf-8";

/// A refusal of one prompt among several says which.
absl::Status OfPrompt(const absl::Status& status, size_t index, size_t count) {
  if (count == 1) return status;
  const std::string message = absl::StrCat("prompt[", index, "]: ", status.message());
  const std::optional<std::string> field = FieldOf(status);
  return field ? FieldError(status.code(), *field, message) : absl::Status(status.code(), message);
}

HttpHead StreamHead() {
  return {.content_type = kEventStream, .headers = {{"Cache-Control", "no-cache"}}};
}

}  // namespace

/// The engine's hold on a generation, with the prompt that its updates belong to.
class Generation::Sink final : public RequestSink {
 public:
  Sink(std::shared_ptr<Generation> generation, size_t prompt)
      : generation_(std::move(generation)), prompt_(prompt) {}
  SinkVerdict OnUpdate(RequestUpdate update) override {
    return generation_->OnUpdate(prompt_, std::move(update));
  }

 private:
  const std::shared_ptr<Generation> generation_;
  const size_t prompt_;
};

absl::StatusOr<std::shared_ptr<PendingResponse>> Generation::Start(
    const std::vector<v1::GenerateRequest>& requests, ResponseKind kind,
    const ResponseOptions& options, ResponseIdentity identity, const ServingContext& context) {
  auto generation = std::make_shared<Generation>(kind, options, std::move(identity), context);
  LOCKSTEP_ASSIGN_OR_RETURN(std::vector<EngineRequest> checked, generation->Check(requests));
  for (size_t i = 0; i < requests.size(); ++i) {
    LOCKSTEP_RETURN_IF_ERROR(generation->AddPrompt(requests[i], checked[i]));
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    absl::StatusOr<RequestId> id =
        context.engine.Submit(std::move(checked[i]), std::make_shared<Sink>(generation, i));
    if (!id.ok()) {
      generation->Close();
      return OfPrompt(id.status(), i, requests.size());
    }
    generation->prompts_[i]->id = *id;
  }
  return generation;
}

Generation::Generation(ResponseKind kind, const ResponseOptions& options, ResponseIdentity identity,
                       const ServingContext& context)
    : kind_(kind), options_(options), identity_(std::move(identity)), context_(context) {}

absl::StatusOr<std::vector<EngineRequest>> Generation::Check(
    const std::vector<v1::GenerateRequest>& requests) const {
  std::vector<EngineRequest> checked;
  for (const v1::GenerateRequest& request : requests) {
    absl::StatusOr<EngineRequest> one =
        CheckGenerateRequest(request, context_.model, context_.tokenizer);
    if (!one.ok()) return OfPrompt(one.status(), checked.size(), requests.size());
    checked.push_back(*std::move(one));
  }
  return checked;
}

absl::Status Generation::AddPrompt(const v1::GenerateRequest& request,
                                   const EngineRequest& checked) {
  Prompt& prompt = *prompts_.emplace_back(std::make_unique<Prompt>());
  prompt.text_options = TextOptionsOf(request);
  prompt.text.emplace(checked.choices, context_.tokenizer, prompt.text_options);
  if (options_.echo || options_.return_token_ids) prompt.part.token_ids = checked.prompt;
  if (options_.echo) {
    prompt.part.text = request.text();
    if (request.has_tokens()) {
      LOCKSTEP_ASSIGN_OR_RETURN(
          prompt.part.text,
          context_.tokenizer.Decode(checked.prompt, /*skip_special_tokens=*/false));
    }
  }
  const int first_index = static_cast<int>(prompts_.size() - 1) * checked.choices;
  for (int choice = 0; choice < checked.choices; ++choice) {
    const int index = first_index + choice;
    prompt.formats.push_back(
        kind_ == ResponseKind::kChat
            ? MakeChatFormat(index, options_, context_.tokenizer)
            : MakeCompletionFormat(index, options_, context_.tokenizer, prompt.part));
  }
  absl::MutexLock lock(&mutex_);
  incoming_.push_back(
      std::make_unique<Incoming>(checked.choices, context_.tokenizer, prompt.text_options));
  return absl::OkStatus();
}

void Generation::OnReady(std::function<void()> wake) {
  absl::MutexLock lock(&mutex_);
  wake_ = std::move(wake);
  woken_ = false;
}

SinkVerdict Generation::OnUpdate(size_t prompt, RequestUpdate update) {
  absl::MutexLock lock(&mutex_);
  Incoming& incoming = *incoming_[prompt];
  const SinkVerdict verdict = incoming.output.Add(std::move(update));
  if (incoming.output.complete() && !std::exchange(incoming.counted, true)) ++complete_prompts_;
  failure_.Update(incoming.output.status());
  const bool ready = options_.stream || !failure_.ok() || complete_prompts_ == incoming_.size();
  if (ready && wake_ && !std::exchange(woken_, true)) wake_();
  return verdict;
}

Generation::News Generation::TakeNews() {
  absl::MutexLock lock(&mutex_);
  woken_ = false;
  News news{.failure = failure_};
  if (!news.failure.ok()) return news;
  const bool complete = complete_prompts_ == incoming_.size();
  if (!options_.stream && !complete) return news;
  news.last = true;
  v1::GenerateResponse message;
  for (size_t i = 0; i < incoming_.size(); ++i) {
    while (incoming_[i]->output.Next(message)) news.messages.emplace_back(i, std::move(message));
    news.last = news.last && incoming_[i]->output.finished();
  }
  return news;
}

std::optional<ResponsePart> Generation::Next() {
  News news = TakeNews();
  if (!news.failure.ok() && !begun_) {
    HttpResponse response = ErrorResponse(news.failure);
    return ResponsePart{
        .head = std::move(response.head), .body = std::move(response.body), .last = true};
  }
  // A stream is open from the moment that the request was taken.
  const bool opens = options_.stream && !begun_;
  if (news.messages.empty() && news.failure.ok() && !opens) return std::nullopt;
  if (options_.stream) return StreamPart(std::move(news));
  return WholePart(std::move(news.messages));
}

void Generation::Close() {
  {
    absl::MutexLock lock(&mutex_);
    wake_ = nullptr;
    if (complete_prompts_ == incoming_.size()) return;
  }
  for (const std::unique_ptr<Prompt>& prompt : prompts_) {
    if (prompt->id) context_.engine.Cancel(*prompt->id);
  }
}

ChoiceFormat& Generation::Prepare(Message& message) {
  Prompt& prompt = *prompts_[message.first];
  v1::GenerateResponse& response = message.second;
  prompt.text->Fill(response);
  usage_.Add(response);
  if (response.prompt_logprobs_size() > 0) {
    prompt.part.logprobs.assign(response.prompt_logprobs().begin(),
                                response.prompt_logprobs().end());
    prompt.part.alternatives.assign(response.prompt_top_logprobs().begin(),
                                    response.prompt_top_logprobs().end());
  }
  return *prompt.formats[response.choice()];
}

ResponsePart Generation::WholePart(std::vector<Message> messages) {
  // By index: the prompts in order, and of each the choices in order.
  OrderedJson choices = OrderedJson::array();
  for (Message& message : messages) choices.push_back(Prepare(message).Whole(message.second));
  const bool chat = kind_ == ResponseKind::kChat;
  OrderedJson body =
      Envelope(identity_, chat ? "chat.completion" : "text_completion", std::move(choices));
  if (chat && options_.return_token_ids) body["prompt_token_ids"] = prompts_[0]->part.token_ids;
  body["usage"] = usage_.ToJson();
  return {.head = HttpHead{}, .body = Dump(body), .last = true};
}

ResponsePart Generation::StreamPart(News news) {
  ResponsePart part;
  if (!begun_) part.head = StreamHead();
  for (Message& message : news.messages) part.body += Events(message);
  if (!news.failure.ok()) {
    part.body += ServerSentEvent(ErrorBody(news.failure));
  } else if (news.last && options_.include_usage) {
    part.body += ChunkEvent(OrderedJson::array(), usage_.ToJson());
  }
  part.last = news.last || !news.failure.ok();
  if (part.last) part.body += kStreamEnd;
  begun_ = true;
  return part;
}

std::string Generation::Events(Message& message) {
  std::string events;
  ChoiceFormat& format = Prepare(message);
  for (OrderedJson& choice : format.Chunks(message.second)) {
    events += ChunkEvent(OrderedJson::array({std::move(choice)}), nullptr);
  }
  return events;
}

std::string Generation::ChunkEvent(OrderedJson choices, OrderedJson usage) {
  const bool chat = kind_ == ResponseKind::kChat;
  OrderedJson chunk =
      Envelope(identity_, chat ? "chat.completion.chunk" : "text_completion", std::move(choices));
  if (chat && options_.return_token_ids && !std::exchange(prompt_told_, true)) {
    chunk["prompt_token_ids"] = prompts_[0]->part.token_ids;
  }
  if (options_.include_usage) chunk["usage"] = std::move(usage);
  return ServerSentEvent(Dump(chunk));
}

}  // namespace lockstep::coordinator
