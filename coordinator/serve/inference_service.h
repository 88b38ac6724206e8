// InferenceService on gRPC's callback API: checks a request, gives it to the engine, and turns the
// engine's updates into messages. No thread of its own.
#ifndef LOCKSTEP_COORDINATOR_SERVE_INFERENCE_SERVICE_H_
#define LOCKSTEP_COORDINATOR_SERVE_INFERENCE_SERVICE_H_

#include "coordinator/engine/engine.h"
#include "coordinator/serve/served_model.h"
#include "proto/lockstep/v1/inference.grpc.pb.h"
#include "text/tokenizer.h"

namespace lockstep::coordinator {

/// Thread-safe, as gRPC needs it. Stop the server before anything that it was made of goes away.
class InferenceService final : public v1::InferenceService::CallbackService {
 public:
  /// `tokenizer` and `engine` must outlive the service and every call on it.
  InferenceService(ServedModel model, const text::Tokenizer& tokenizer, Engine& engine);

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const v1::GetModelRequest* request,
                                     v1::GetModelResponse* response) override;

 private:
  const ServedModel model_;
  const text::Tokenizer& tokenizer_;
  Engine& engine_;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_SERVE_INFERENCE_SERVICE_H_
