// The methods of InferenceService; the stream of Generate is generate_stream.cc.
#include "coordinator/serve/inference_service.h"

#include <chrono>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/grpc_status.h"
#include "coordinator/serve/chat_prompt.h"
#include "coordinator/serve/generate_stream.h"
#include "coordinator/serve/request_check.h"
#include "coordinator/serve/text_output.h"
#include "coordinator/serve/wire_message.h"

namespace lockstep::coordinator {
namespace {

/// A call that was refused before it began.
class RefusedStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  explicit RefusedStream(const absl::Status& status) { Finish(ToGrpcStatus(status)); }
  void OnDone() override { delete this; }
};

absl::Time DeadlineOf(const grpc::CallbackServerContext& context) {
  const std::chrono::system_clock::time_point deadline = context.deadline();
  return deadline == std::chrono::system_clock::time_point::max() ? absl::InfiniteFuture()
                                                                  : absl::FromChrono(deadline);
}

grpc::ServerUnaryReactor* FinishUnary(grpc::CallbackServerContext* context,
                                      const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* InferenceService::Generate(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* bytes) {
  v1::GenerateRequest request;
  if (absl::Status parsed = ParseMessage(*bytes, request); !parsed.ok()) {
    return new RefusedStream(parsed);
  }
  return Start(*context, request);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* InferenceService::Chat(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* bytes) {
  v1::ChatRequest request;
  if (absl::Status parsed = ParseMessage(*bytes, request); !parsed.ok()) {
    return new RefusedStream(parsed);
  }
  const absl::StatusOr<v1::GenerateRequest> rendered = RenderChat(request, serving_.chat_template);
  if (!rendered.ok()) return new RefusedStream(rendered.status());
  return Start(*context, *rendered);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* InferenceService::Start(
    const grpc::CallbackServerContext& context, const v1::GenerateRequest& request) {
  absl::StatusOr<EngineRequest> checked =
      CheckGenerateRequest(request, serving_.model, serving_.tokenizer);
  if (!checked.ok()) return new RefusedStream(checked.status());
  checked->deadline = DeadlineOf(context);
  return GenerateStream::Start(*std::move(checked), TextOptionsOf(request), serving_.tokenizer,
                               serving_.engine);
}

grpc::ServerUnaryReactor* InferenceService::Tokenize(grpc::CallbackServerContext* context,
                                                     const grpc::ByteBuffer* bytes,
                                                     grpc::ByteBuffer* response) {
  v1::TokenizeRequest request;
  if (absl::Status parsed = ParseMessage(*bytes, request); !parsed.ok()) {
    return FinishUnary(context, parsed);
  }
  const absl::Status length = CheckTextBytes(request.text(), serving_.model.context_tokens);
  if (!length.ok()) return FinishUnary(context, length);
  const bool add_special_tokens = !request.has_add_special_tokens() || request.add_special_tokens();
  absl::StatusOr<std::vector<int32_t>> ids =
      serving_.tokenizer.Encode(request.text(), add_special_tokens);
  if (!ids.ok()) return FinishUnary(context, ids.status());
  v1::TokenizeResponse tokens;
  tokens.mutable_token_ids()->Add(ids->begin(), ids->end());
  *response = SerializeMessage(tokens);
  return FinishUnary(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* InferenceService::Detokenize(grpc::CallbackServerContext* context,
                                                       const v1::DetokenizeRequest* request,
                                                       v1::DetokenizeResponse* response) {
  const bool skip_special_tokens =
      !request->has_skip_special_tokens() || request->skip_special_tokens();
  const std::span<const int32_t> ids(request->token_ids().data(), request->token_ids().size());
  absl::Status status = CheckTokenIds(ids, serving_.model.vocab_size, "token_ids");
  if (!status.ok()) return FinishUnary(context, status);
  absl::StatusOr<std::string> text = serving_.tokenizer.Decode(ids, skip_special_tokens);
  if (!text.ok()) return FinishUnary(context, text.status());
  response->set_text(*std::move(text));
  return FinishUnary(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* InferenceService::GetModel(grpc::CallbackServerContext* context,
                                                     const v1::GetModelRequest* request,
                                                     v1::GetModelResponse* response) {
  response->set_name(serving_.model.name);
  response->set_architecture(serving_.model.architecture);
  response->set_context_tokens(serving_.model.context_tokens);
  response->set_vocab_size(serving_.model.vocab_size);
  const std::vector<int32_t>& eos = serving_.model.defaults.eos_token_ids;
  response->mutable_eos_token_ids()->Add(eos.begin(), eos.end());
  return FinishUnary(context, absl::OkStatus());
}

}  // namespace lockstep::coordinator
