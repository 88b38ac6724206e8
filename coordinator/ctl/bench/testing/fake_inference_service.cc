// See fake_inference_service.h.
#include "coordinator/ctl/bench/testing/fake_inference_service.h"

#include <string>

namespace lockstep::coordinator {

/// Deletes itself when the call is over.
class FakeInferenceService::Stream : public grpc::ServerWriteReactor<v1::GenerateResponse> {
 public:
  Stream(FakeInferenceService* service, const v1::GenerateRequest& request)
      : service_(service),
        prompt_tokens_(request.tokens().ids_size()),
        left_(request.max_tokens()),
        tokens_(request.max_tokens()) {
    const int64_t streams = ++service_->streams_;
    int64_t most = service_->max_streams_;
    while (streams > most && !service_->max_streams_.compare_exchange_weak(most, streams)) {
    }
    if (prompt_tokens_ > service_->longest_prompt_tokens_) {
      Finish(grpc::Status(grpc::StatusCode::OUT_OF_RANGE,
                          "prompt of " + std::to_string(prompt_tokens_) + " tokens"));
    } else {
      Next();
    }
  }

  void OnWriteDone(bool ok) override {
    if (ok) {
      Next();
    } else {
      Finish(grpc::Status::CANCELLED);
    }
  }

  void OnDone() override {
    --service_->streams_;
    delete this;
  }

 private:
  void Next() {
    if (left_ == 0) {
      Finish(grpc::Status::OK);
      return;
    }
    response_.Clear();
    response_.add_token_ids(left_);
    response_.set_text(" token");
    if (--left_ == 0 && service_->finishes_) {
      v1::Finish* finish = response_.mutable_finish();
      finish->set_reason(v1::FINISH_REASON_LENGTH);
      finish->set_prompt_tokens(prompt_tokens_);
      finish->set_completion_tokens(tokens_);
    }
    StartWrite(&response_);
  }

  FakeInferenceService* service_;
  const int32_t prompt_tokens_;
  int32_t left_;
  const int32_t tokens_;
  v1::GenerateResponse response_;
};

grpc::ServerWriteReactor<v1::GenerateResponse>* FakeInferenceService::Generate(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  return new Stream(this, *request);
}

grpc::ServerUnaryReactor* FakeInferenceService::GetModel(grpc::CallbackServerContext* context,
                                                         const v1::GetModelRequest* request,
                                                         v1::GetModelResponse* response) {
  response->set_name("fake");
  response->set_vocab_size(1000);
  response->set_context_tokens(longest_prompt_tokens_);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace lockstep::coordinator
