// A small state machine: tokens gather; when no write is under way they go out; the last outcome
// ends it.
#include "coordinator/serve/generate_stream.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/grpc_status.h"
#include "coordinator/serve/wire_message.h"

namespace lockstep::coordinator {

GenerateStream* GenerateStream::Start(EngineRequest request, TextOptions text_options,
                                      const text::Tokenizer& tokenizer, Engine& engine) {
  auto stream =
      std::make_shared<GenerateStream>(request.choices, std::move(text_options), tokenizer, engine);
  stream->self_ = stream;
  absl::StatusOr<RequestId> id = engine.Submit(std::move(request), stream);
  if (id.ok()) {
    stream->request_id_ = *id;
  } else {
    stream->Finish(ToGrpcStatus(id.status()));
  }
  return stream.get();
}

GenerateStream::GenerateStream(int choices, TextOptions text_options,
                               const text::Tokenizer& tokenizer, Engine& engine)
    : engine_(engine),
      text_options_(std::move(text_options)),
      output_(choices, tokenizer, text_options_),
      text_(choices, tokenizer, text_options_) {}

SinkVerdict GenerateStream::OnUpdate(RequestUpdate update) {
  SinkVerdict verdict = SinkVerdict::kGoOn;
  {
    absl::MutexLock lock(&mutex_);
    verdict = output_.Add(std::move(update));
  }
  WriteIfIdle();
  return verdict;
}

void GenerateStream::OnWriteDone(bool ok) {
  // Else every message of a step would wake this thread, which costs more than to write it.
  if (request_id_) engine_.AwaitDelivery(*request_id_);
  {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
  }
  // Not ok: the client is gone. The outcome of its cancelled request finishes the call.
  if (!ok && request_id_) engine_.Cancel(*request_id_);
  WriteIfIdle();
}

void GenerateStream::OnCancel() {
  if (request_id_) engine_.Cancel(*request_id_);
}

void GenerateStream::OnDone() {
  // Where one choice has failed the others may still be at work.
  if (request_id_) engine_.Cancel(*request_id_);
  self_.reset();
}

bool GenerateStream::TakeMessage() {
  absl::MutexLock lock(&mutex_);
  if (writing_ || finished_) return false;
  if (!output_.status().ok()) {
    finished_ = true;
    Finish(ToGrpcStatus(output_.status()));
    return false;
  }
  if (!output_.Next(message_)) return false;
  writing_ = true;
  finished_ = output_.finished();
  last_ = finished_;
  return true;
}

void GenerateStream::WriteIfIdle() {
  if (!TakeMessage()) return;
  text_.Fill(message_);
  response_ = SerializeMessage(message_);
  if (last_) {
    StartWriteAndFinish(&response_, grpc::WriteOptions(), grpc::Status::OK);
  } else {
    StartWrite(&response_);
  }
}

}  // namespace lockstep::coordinator
