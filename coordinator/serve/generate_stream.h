// One Generate call: the engine's sink on one side, gRPC's write reactor on the other.
#ifndef LOCKSTEP_COORDINATOR_SERVE_GENERATE_STREAM_H_
#define LOCKSTEP_COORDINATOR_SERVE_GENERATE_STREAM_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <optional>
#include <string>

#include "absl/synchronization/mutex.h"
#include "coordinator/engine/engine.h"
#include "coordinator/engine/engine_request.h"
#include "proto/lockstep/v1/inference.pb.h"
#include "text/stream_decoder.h"
#include "text/tokenizer.h"

namespace lockstep::coordinator {

/// One message per token as long as the client keeps up; where a write is still under way, tokens
/// gather (at most max_tokens of them) and go out together. Text is decoded when a message is made,
/// after the step that brought the token has had its successor sent off.
///
/// Lifetime: gRPC and the engine each hold a reference; it goes with the last one.
/// Thread-safety: updates, write completions and cancellation may come from any thread at once.
class GenerateStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer>, public RequestSink {
 public:
  /// Submits the request; a refusal becomes the call's status. The result is for gRPC, which gets
  /// its reference back in OnDone.
  static GenerateStream* Start(EngineRequest request, bool skip_special_tokens,
                               const text::Tokenizer& tokenizer, Engine& engine);

  GenerateStream(bool skip_special_tokens, const text::Tokenizer& tokenizer, Engine& engine)
      : engine_(engine), decoder_(tokenizer, skip_special_tokens) {}

  SinkVerdict OnUpdate(RequestUpdate update) override ABSL_LOCKS_EXCLUDED(mutex_);

  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnCancel() override;
  void OnDone() override;

 private:
  // Writes what has gathered, or finishes the call, unless a write is under way.
  void WriteIfIdle() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The text that the gathered tokens settle; all of it at the end.
  std::string DecodeGathered() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Engine& engine_;
  // Set before gRPC reacts for the first time; unset if the engine refused the request.
  std::optional<RequestId> request_id_;
  // gRPC's reference.
  std::shared_ptr<GenerateStream> self_;

  absl::Mutex mutex_;
  text::StreamDecoder decoder_ ABSL_GUARDED_BY(mutex_);
  // Since the last message: tokens and log-probabilities, no text yet.
  v1::GenerateResponse gathered_ ABSL_GUARDED_BY(mutex_);
  std::optional<RequestOutcome> outcome_ ABSL_GUARDED_BY(mutex_);
  // Being written; gRPC needs it until OnWriteDone or OnDone.
  grpc::ByteBuffer response_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_SERVE_GENERATE_STREAM_H_
