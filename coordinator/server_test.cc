// The whole coordinator in front of fake workers: from a prompt to streamed tokens over gRPC.
#include "coordinator/server.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "coordinator/cluster/testing/fake_worker.h"
#include "coordinator/cluster/testing/small_cluster.h"
#include "proto/lockstep/v1/inference.grpc.pb.h"

namespace lockstep::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ModelSetUp SmallModel(int tp, int pp) {
  ModelSetUp model;
  model.cluster = SmallClusterConfig(tp, pp);
  model.served = {.name = "small",
                  .architecture = "LlamaForCausalLM",
                  .context_tokens = model.cluster.plan.context_tokens,
                  .vocab_size = 1024};
  model.tokenizer = *text::Tokenizer::Empty();
  return model;
}

class ServerTest : public ::testing::Test {
 protected:
  void Start(int tp, int pp) {
    server_ = *StartServer(SmallModel(tp, pp), EngineOptions{}, {.host = "127.0.0.1"});
    channel_ = Connect();
  }
  std::shared_ptr<grpc::Channel> Connect() {
    return grpc::CreateChannel(server_->address().ToString(), grpc::InsecureChannelCredentials());
  }
  std::unique_ptr<FakeWorker> Worker(int index) {
    return std::make_unique<FakeWorker>(
        Connect(), FakeWorker::Options{.worker_id = "w" + std::to_string(index),
                                       .local_index = static_cast<uint32_t>(index)});
  }
  /// Tokens of one greedy request for `prompt` and `max_tokens`.
  std::vector<int32_t> Generate(std::vector<int32_t> prompt, int max_tokens) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    v1::GenerateRequest request;
    request.mutable_tokens()->mutable_ids()->Assign(prompt.begin(), prompt.end());
    request.mutable_sampling()->set_temperature(0);
    request.set_max_tokens(max_tokens);
    auto reader = v1::InferenceService::NewStub(channel_)->Generate(&context, request);
    std::vector<int32_t> tokens;
    v1::GenerateResponse response;
    while (reader->Read(&response)) {
      tokens.insert(tokens.end(), response.token_ids().begin(), response.token_ids().end());
    }
    status_ = reader->Finish();
    return tokens;
  }

  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  grpc::Status status_;
};

TEST_F(ServerTest, ARequestGoesThroughAllRanksAndComesBackAsTokens) {
  Start(2, 2);
  std::vector<std::unique_ptr<FakeWorker>> workers;
  for (int i = 0; i < 4; ++i) workers.push_back(Worker(i));
  // A fake worker's token is the position it stands at. The request may come before the ranks.
  EXPECT_THAT(Generate({7, 8, 9}, 4), ElementsAre(3, 4, 5, 6));
  EXPECT_TRUE(status_.ok()) << status_.error_message();
  server_->Stop();
}

TEST_F(ServerTest, ARequestOutlivesTheDeathOfARank) {
  Start(1, 1);
  auto dying = std::make_unique<FakeWorker>(
      Connect(), FakeWorker::Options{.on_batch = [](const v1::Assignment& assignment,
                                                    const v1::StepBatch& batch) {
        return batch.step_id() <= 2 ? FakeWorker::Answer(assignment, batch) : std::nullopt;
      }});
  std::thread killer([&] {
    const absl::Time deadline = absl::Now() + kTestDeadline;
    while (dying->batches().size() < 3 && absl::Now() < deadline) std::this_thread::yield();
    dying->Kill();
  });
  std::unique_ptr<FakeWorker> successor;
  std::thread rescuer([&] {
    dying->WaitForEnd(kTestDeadline);
    successor = Worker(1);
  });
  EXPECT_THAT(Generate({7, 8, 9}, 5), ElementsAre(3, 4, 5, 6, 7));
  EXPECT_TRUE(status_.ok()) << status_.error_message();
  killer.join();
  rescuer.join();
  server_->Stop();
}

TEST_F(ServerTest, StopEndsCallsWithUnavailableSendsWorkersHomeAndIsQuick) {
  Start(1, 1);
  FakeWorker silent(Connect(), {.on_batch = [](const v1::Assignment&, const v1::StepBatch&) {
                      return std::optional<v1::StepResult>();
                    }});
  std::thread caller([&] { Generate({7}, 4); });
  const absl::Time deadline = absl::Now() + kTestDeadline;
  while (silent.batches().empty() && absl::Now() < deadline) std::this_thread::yield();
  const absl::Time stop = absl::Now();
  server_->Stop();
  EXPECT_LT(absl::Now() - stop, absl::Seconds(5));
  caller.join();
  EXPECT_EQ(status_.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_TRUE(silent.WaitForMessage(v1::JoinResponse::kShutdown, kTestDeadline));
}

TEST_F(ServerTest, TheSamePortTwiceIsRefused) {
  Start(1, 1);
  absl::Status status = StartServer(SmallModel(1, 1), EngineOptions{}, server_->address()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("cannot listen on"));
  server_->Stop();
}

}  // namespace
}  // namespace lockstep::coordinator
