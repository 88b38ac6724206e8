// Claims on the load generator, against a real gRPC server that answers at once.
#include "coordinator/ctl/bench/load_generator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "coordinator/ctl/bench/poisson_arrivals.h"
#include "coordinator/ctl/bench/testing/fake_inference_service.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"

namespace lockstep::coordinator {
namespace {

constexpr int64_t kLongestPrompt = 100;

v1::GenerateRequest RequestOf(int prompt_tokens, int output_tokens) {
  v1::GenerateRequest request;
  for (int i = 0; i < prompt_tokens; ++i) request.mutable_tokens()->add_ids(i);
  request.set_max_tokens(output_tokens);
  return request;
}

class LoadGeneratorTest : public ::testing::Test {
 protected:
  void Serve(bool finishes = true) {
    service_ = std::make_unique<FakeInferenceService>(kLongestPrompt, finishes);
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
  }

  std::vector<std::shared_ptr<grpc::Channel>> Channels(int count = 1) const {
    return std::vector<std::shared_ptr<grpc::Channel>>(
        count, grpc::CreateChannel("127.0.0.1:" + std::to_string(port_),
                                   grpc::InsecureChannelCredentials()));
  }

  LoadResult Generate(const LoadOptions& options, int prompt_tokens = 10, int output_tokens = 7) {
    return GenerateLoad(
        Channels(), options, [=](int64_t) { return RequestOf(prompt_tokens, output_tokens); },
        [this](const LoadProgress& progress) { progress_ = progress; }, stop_);
  }

  int port_ = 0;
  std::unique_ptr<FakeInferenceService> service_;
  std::unique_ptr<grpc::Server> server_;
  LoadProgress progress_;
  std::atomic<bool> stop_{false};
};

TEST_F(LoadGeneratorTest, EveryTokenOfEveryRequestIsNotedInOrderOfTime) {
  Serve();
  const LoadResult result = Generate({.concurrency = 4, .requests = 50});
  ASSERT_EQ(result.records.size(), 50);
  for (const RequestRecord& record : result.records) {
    EXPECT_TRUE(record.status.ok()) << record.status;
    EXPECT_EQ(record.prompt_tokens, 10);
    ASSERT_EQ(record.arrivals.size(), 7);
    EXPECT_LE(record.sent_ns, record.arrivals.front().at_ns);
    EXPECT_LE(record.arrivals.back().at_ns, record.done_ns);
    EXPECT_TRUE(std::is_sorted(
        record.arrivals.begin(), record.arrivals.end(),
        [](const TokenArrival& a, const TokenArrival& b) { return a.at_ns < b.at_ns; }));
  }
  EXPECT_EQ(progress_.done, 50);
  EXPECT_EQ(progress_.failed, 0);
  EXPECT_EQ(progress_.output_tokens, 350);
}

TEST_F(LoadGeneratorTest, NeverMoreRequestsAtOnceThanAsked) {
  Serve();
  const LoadResult result = Generate({.concurrency = 3, .requests = 60});
  EXPECT_EQ(result.max_in_flight, 3);
  // The server may see a stream end a little after the client did.
  EXPECT_LE(service_->max_streams(), 6);
}

TEST_F(LoadGeneratorTest, EachRequestIsMadeOnceInOrder) {
  Serve();
  std::vector<int64_t> made;
  GenerateLoad(
      Channels(3), {.concurrency = 2, .requests = 9},
      [&](int64_t index) {
        made.push_back(index);
        return RequestOf(1, 1);
      },
      [](const LoadProgress&) {}, stop_);
  EXPECT_EQ(made, (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8}));
}

TEST_F(LoadGeneratorTest, RequestsComeNoSoonerThanThePoissonProcessSays) {
  Serve();
  LoadResult result = Generate({.rate = 400, .requests = 80, .seed = 11});
  std::sort(result.records.begin(), result.records.end(),
            [](const RequestRecord& a, const RequestRecord& b) { return a.sent_ns < b.sent_ns; });
  PoissonArrivals arrivals(400, 11);
  for (const RequestRecord& record : result.records) {
    EXPECT_GE(record.sent_ns, static_cast<int64_t>(arrivals.Next() * 1e9));
  }
}

TEST_F(LoadGeneratorTest, TimeEndsTheSendingAndWhatRunsIsFinished) {
  Serve();
  const LoadResult result = Generate({.concurrency = 2, .seconds = 0.05});
  EXPECT_FALSE(result.records.empty());
  for (const RequestRecord& record : result.records) {
    EXPECT_TRUE(record.status.ok()) << record.status;
    EXPECT_LT(record.sent_ns, 50'000'000);
  }
}

TEST_F(LoadGeneratorTest, RefusalIsARecordWithTheServersCodeAndWords) {
  Serve();
  const LoadResult result = Generate({.concurrency = 2, .requests = 5}, kLongestPrompt + 1);
  ASSERT_EQ(result.records.size(), 5);
  for (const RequestRecord& record : result.records) {
    EXPECT_EQ(record.status, absl::OutOfRangeError("prompt of 101 tokens"));
    EXPECT_TRUE(record.arrivals.empty());
  }
  EXPECT_EQ(progress_.failed, 5);
}

TEST_F(LoadGeneratorTest, ServerThatIsGoneFailsEachRequestAndIsNotCalledInATightLoop) {
  Serve();
  server_->Shutdown();
  const LoadResult result = Generate({.concurrency = 1, .seconds = 0.35});
  EXPECT_GE(result.records.size(), 1);
  EXPECT_LE(result.records.size(), 4);
  for (const RequestRecord& record : result.records) {
    EXPECT_EQ(record.status.code(), absl::StatusCode::kUnavailable);
  }
}

TEST_F(LoadGeneratorTest, ServerThatStaysGoneIsGivenUp) {
  Serve();
  server_->Shutdown();
  const LoadResult result =
      Generate({.concurrency = 1, .requests = 1'000'000, .give_up_after_s = 0.25});
  EXPECT_GE(result.records.size(), 2);
  EXPECT_LE(result.records.size(), 5);
}

TEST_F(LoadGeneratorTest, StreamWithoutAFinishReasonIsNoSuccess) {
  Serve(/*finishes=*/false);
  const LoadResult result = Generate({.concurrency = 1, .requests = 1});
  EXPECT_EQ(result.records[0].status.code(), absl::StatusCode::kDataLoss);
}

TEST_F(LoadGeneratorTest, StopCancelsWhatRunsAndSendsNothingMore) {
  Serve();
  stop_ = true;
  // Far more than fits into the time of a test.
  const LoadResult result = Generate({.concurrency = 2, .requests = 1'000'000}, 10, 1'000'000);
  EXPECT_EQ(result.records.size(), 2);
  for (const RequestRecord& record : result.records) {
    EXPECT_EQ(record.status.code(), absl::StatusCode::kCancelled);
  }
}

}  // namespace
}  // namespace lockstep::coordinator
