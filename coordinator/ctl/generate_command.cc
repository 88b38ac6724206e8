// See generate_command.h.
#include "coordinator/ctl/generate_command.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <iostream>

#include "absl/strings/str_format.h"
#include "coordinator/ctl/admin_client.h"
#include "grpcpp/client_context.h"
#include "nlohmann/json.hpp"
#include "proto/lockstep/v1/inference.grpc.pb.h"

namespace lockstep::coordinator {
namespace {

// The call under way, for the signal handler. TryCancel only sets a flag and wakes gRPC.
std::atomic<grpc::ClientContext*> active_call{nullptr};

void CancelActiveCall(int) {
  if (grpc::ClientContext* call = active_call.load()) call->TryCancel();
}

std::string_view ReasonName(v1::FinishReason reason) {
  return reason == v1::FINISH_REASON_STOP ? "stop" : "length";
}

std::string ToJsonLine(const v1::GenerateResponse& response) {
  nlohmann::json json;
  json["token_ids"] =
      std::vector<int32_t>(response.token_ids().begin(), response.token_ids().end());
  json["text"] = response.text();
  if (response.logprobs_size() > 0) {
    json["logprobs"] = std::vector<float>(response.logprobs().begin(), response.logprobs().end());
  }
  if (response.prompt_logprobs_size() > 0) {
    json["prompt_logprobs"] =
        std::vector<float>(response.prompt_logprobs().begin(), response.prompt_logprobs().end());
  }
  if (response.has_finish()) {
    const v1::Finish& finish = response.finish();
    json["finish"] = {{"reason", ReasonName(finish.reason())},
                      {"prompt_tokens", finish.prompt_tokens()},
                      {"cached_tokens", finish.cached_tokens()},
                      {"completion_tokens", finish.completion_tokens()},
                      {"seed", finish.seed()},
                      {"queue_us", finish.queue_us()},
                      {"first_token_us", finish.first_token_us()},
                      {"total_us", finish.total_us()}};
  }
  return json.dump() + "\n";
}

void PrintSpeed(const v1::Finish& finish) {
  double decode_seconds = static_cast<double>(finish.total_us() - finish.first_token_us()) * 1e-6;
  std::cerr << absl::StrFormat(
      "[%d prompt tokens, %d generated (%s), first after %.0f ms, then %.1f a second, seed %d]\n",
      finish.prompt_tokens(), finish.completion_tokens(), std::string(ReasonName(finish.reason())),
      static_cast<double>(finish.first_token_us()) * 1e-3,
      decode_seconds > 0 ? (finish.completion_tokens() - 1) / decode_seconds : 0.0, finish.seed());
}

}  // namespace

int RunGenerate(const GenerateOptions& options) {
  grpc::ClientContext context;
  active_call = &context;
  signal(SIGINT, CancelActiveCall);
  auto stub = v1::InferenceService::NewStub(MakeChannel(options.coordinator));
  auto reader = stub->Generate(&context, options.request);
  if (options.echo && !options.json) std::cout << options.request.text() << std::flush;
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
    std::cout << (options.json ? ToJsonLine(response) : response.text()) << std::flush;
    if (response.has_finish() && !options.json) {
      std::cout << std::endl;
      if (isatty(STDERR_FILENO)) PrintSpeed(response.finish());
    }
  }
  grpc::Status status = reader->Finish();
  active_call = nullptr;
  if (status.ok()) return 0;
  if (status.error_code() == grpc::StatusCode::CANCELLED) return 130;
  std::cerr << "\ncoordinatorctl: " << status.error_message();
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
    std::cerr << " (coordinator " << options.coordinator << "; --coordinator names another)";
  }
  std::cerr << std::endl;
  return 1;
}

}  // namespace lockstep::coordinator
