// One Generate or Chat call: the engine's sink on one side, gRPC's write reactor on the other.
#ifndef LOCKSTEP_COORDINATOR_SERVE_GENERATE_STREAM_H_
#define LOCKSTEP_COORDINATOR_SERVE_GENERATE_STREAM_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <optional>

#include "absl/synchronization/mutex.h"
#include "coordinator/engine/engine.h"
#include "coordinator/engine/engine_request.h"
#include "coordinator/serve/request_output.h"
#include "coordinator/serve/text_output.h"
#include "proto/lockstep/v1/inference.pb.h"
#include "text/tokenizer.h"

namespace lockstep::coordinator {

/// One message per token as long as the client keeps up; where a write is still under way, tokens
/// gather (at most max_tokens of each choice) and go out together, a message per choice. Text is
/// decoded when a message is made, outside the lock and after the step that brought the token has
/// had its successor sent off; with stop strings, as the tokens come.
///
/// Lifetime: gRPC and the engine each hold a reference; it goes with the last one.
/// Thread-safety: updates, write completions and cancellation may come from any thread at once.
class GenerateStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer>, public RequestSink {
 public:
  /// Submits the request; a refusal becomes the call's status. The result is for gRPC, which gets
  /// its reference back in OnDone.
  static GenerateStream* Start(EngineRequest request, TextOptions text_options,
                               const text::Tokenizer& tokenizer, Engine& engine);

  GenerateStream(int choices, TextOptions text_options, const text::Tokenizer& tokenizer,
                 Engine& engine);

  SinkVerdict OnUpdate(RequestUpdate update) override ABSL_LOCKS_EXCLUDED(mutex_);

  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnCancel() override;
  void OnDone() override;

 private:
  // Writes what has gathered, or finishes the call, unless a write is under way.
  void WriteIfIdle() ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether there is something to write into message_, which then is the caller's; or ends a call
  // that has failed.
  bool TakeMessage() ABSL_LOCKS_EXCLUDED(mutex_);

  Engine& engine_;
  const TextOptions text_options_;
  // Set before gRPC reacts for the first time; unset if the engine refused the request.
  std::optional<RequestId> request_id_;
  // gRPC's reference.
  std::shared_ptr<GenerateStream> self_;

  absl::Mutex mutex_;
  RequestOutput output_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  // Nothing more will be written.
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;

  // These belong to whoever has set writing_.
  MessageText text_;
  v1::GenerateResponse message_;  // kept for its memory
  // Being written; gRPC needs it until OnWriteDone or OnDone.
  grpc::ByteBuffer response_;
  bool last_ = false;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_SERVE_GENERATE_STREAM_H_
