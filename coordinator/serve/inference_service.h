// InferenceService on gRPC's callback API: checks a request, gives it to the engine, and turns the
// engine's updates into messages. No thread of its own.
#ifndef LOCKSTEP_COORDINATOR_SERVE_INFERENCE_SERVICE_H_
#define LOCKSTEP_COORDINATOR_SERVE_INFERENCE_SERVICE_H_

#include "coordinator/serve/serving_context.h"
#include "proto/lockstep/v1/inference.grpc.pb.h"

namespace lockstep::coordinator {

// Requests with texts in them are parsed by hand (wire_message.h).
using InferenceServiceMethods = v1::InferenceService::WithRawCallbackMethod_Generate<
    v1::InferenceService::WithRawCallbackMethod_Chat<
        v1::InferenceService::WithRawCallbackMethod_Tokenize<
            v1::InferenceService::WithCallbackMethod_Detokenize<
                v1::InferenceService::WithCallbackMethod_GetModel<
                    v1::InferenceService::Service>>>>>;

/// Thread-safe, as gRPC needs it. Stop the server before anything that it was made of goes away.
class InferenceService final : public InferenceServiceMethods {
 public:
  explicit InferenceService(const ServingContext& context) : serving_(context) {}

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Generate(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* request) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Chat(grpc::CallbackServerContext* context,
                                                   const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const v1::GetModelRequest* request,
                                     v1::GetModelResponse* response) override;

 private:
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Start(const grpc::CallbackServerContext& context,
                                                    const v1::GenerateRequest& request);

  const ServingContext serving_;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_SERVE_INFERENCE_SERVICE_H_
