// A server that answers every request at once, as fast as gRPC writes: for tests of the load
// generator, and to see what it can take.
#ifndef LOCKSTEP_COORDINATOR_CTL_BENCH_TESTING_FAKE_INFERENCE_SERVICE_H_
#define LOCKSTEP_COORDINATOR_CTL_BENCH_TESTING_FAKE_INFERENCE_SERVICE_H_

#include <atomic>
#include <cstdint>

#include "proto/lockstep/v1/inference.grpc.pb.h"

namespace lockstep::coordinator {

/// max_tokens messages of one token each; the last one carries `finish`. Thread-safe.
class FakeInferenceService : public v1::InferenceService::CallbackService {
 public:
  /// Prompts of more tokens are refused with OUT_OF_RANGE. `finishes`: whether the last message
  /// carries `finish`, as a sound server's does.
  explicit FakeInferenceService(int64_t longest_prompt_tokens, bool finishes = true)
      : longest_prompt_tokens_(longest_prompt_tokens), finishes_(finishes) {}

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const v1::GetModelRequest* request,
                                     v1::GetModelResponse* response) override;

  /// Most streams that were open at once so far.
  int64_t max_streams() const { return max_streams_; }

 private:
  class Stream;

  const int64_t longest_prompt_tokens_;
  const bool finishes_;
  std::atomic<int64_t> streams_{0};
  std::atomic<int64_t> max_streams_{0};
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CTL_BENCH_TESTING_FAKE_INFERENCE_SERVICE_H_
