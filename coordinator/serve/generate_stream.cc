// A small state machine: tokens gather; when no write is under way they go out; the outcome ends
// it.
#include "coordinator/serve/generate_stream.h"

#include <glog/logging.h>

#include <utility>

#include "base/grpc_status.h"
#include "coordinator/serve/wire_message.h"

namespace lockstep::coordinator {
namespace {

v1::Finish ToProto(const RequestOutcome& outcome) {
  v1::Finish finish;
  finish.set_reason(outcome.reason);
  finish.set_prompt_tokens(static_cast<int32_t>(outcome.prompt_tokens));
  finish.set_completion_tokens(static_cast<int32_t>(outcome.completion_tokens));
  finish.set_seed(outcome.seed);
  finish.set_queue_us(outcome.queue_us);
  finish.set_first_token_us(outcome.first_token_us);
  finish.set_total_us(outcome.total_us);
  return finish;
}

}  // namespace

GenerateStream* GenerateStream::Start(EngineRequest request, bool skip_special_tokens,
                                      const text::Tokenizer& tokenizer, Engine& engine) {
  auto stream = std::make_shared<GenerateStream>(skip_special_tokens, tokenizer, engine);
  stream->self_ = stream;
  absl::StatusOr<RequestId> id = engine.Submit(std::move(request), stream);
  if (id.ok()) {
    stream->request_id_ = *id;
  } else {
    stream->Finish(ToGrpcStatus(id.status()));
  }
  return stream.get();
}

SinkVerdict GenerateStream::OnUpdate(RequestUpdate update) {
  absl::MutexLock lock(&mutex_);
  if (outcome_) return SinkVerdict::kGoOn;
  gathered_.mutable_prompt_logprobs()->Add(update.prompt_logprobs.begin(),
                                           update.prompt_logprobs.end());
  if (update.token_id) gathered_.add_token_ids(*update.token_id);
  if (update.logprob) gathered_.add_logprobs(*update.logprob);
  outcome_ = std::move(update.outcome);
  WriteIfIdle();
  return SinkVerdict::kGoOn;
}

void GenerateStream::OnWriteDone(bool ok) {
  {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (ok) return WriteIfIdle();
  }
  // The client is gone; its outcome finishes the call.
  OnCancel();
}

void GenerateStream::OnCancel() {
  if (request_id_) engine_.Cancel(*request_id_);
  absl::MutexLock lock(&mutex_);
  WriteIfIdle();
}

void GenerateStream::OnDone() { self_.reset(); }

void GenerateStream::WriteIfIdle() {
  if (writing_ || finished_) return;
  if (outcome_ && !outcome_->status.ok()) {
    finished_ = true;
    Finish(ToGrpcStatus(outcome_->status));
    return;
  }
  if (!outcome_ && gathered_.token_ids().empty()) return;
  gathered_.set_text(DecodeGathered());
  if (outcome_) *gathered_.mutable_finish() = ToProto(*outcome_);
  response_ = SerializeMessage(gathered_);
  gathered_.Clear();
  if (outcome_) {
    finished_ = true;
    StartWriteAndFinish(&response_, grpc::WriteOptions(), grpc::Status::OK);
  } else {
    writing_ = true;
    StartWrite(&response_);
  }
}

std::string GenerateStream::DecodeGathered() {
  int count = gathered_.token_ids_size();
  // The end token came with the outcome, and is no text.
  if (outcome_ && outcome_->reason == v1::FINISH_REASON_STOP) --count;
  std::string text;
  for (int i = 0; i < count; ++i) {
    absl::StatusOr<std::string> piece = decoder_.Push(gathered_.token_ids(i));
    if (piece.ok()) {
      text += *piece;
    } else {
      LOG(ERROR) << "a token that spells no text: " << piece.status();
    }
  }
  if (outcome_) text += decoder_.Flush();
  return text;
}

}  // namespace lockstep::coordinator
