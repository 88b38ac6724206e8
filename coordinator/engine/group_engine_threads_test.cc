// GroupEngine with everything at once: clients on several threads, cancels, and a group that runs
// in its own thread and is lost again and again. Meant for the sanitizers as well.
#include <random>
#include <thread>
#include <vector>

#include "coordinator/engine/group_engine.h"
#include "coordinator/engine/testing/collecting_sink.h"
#include "coordinator/engine/testing/fake_model.h"
#include "coordinator/engine/testing/fake_rank_group.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lockstep::coordinator {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr int kClients = 4;
constexpr int kRequestsPerClient = 150;

EngineRequest RandomRequest(std::mt19937_64& random) {
  EngineRequest request;
  const size_t length = 1 + random() % 60;
  for (size_t i = 0; i < length; ++i) request.prompt.push_back(static_cast<int32_t>(random() % 64));
  request.max_tokens = 1 + static_cast<int64_t>(random() % 40);
  request.sampling.set_temperature(1.0);
  request.sampling.set_top_k(0);
  request.sampling.set_top_p(1.0);
  request.sampling.set_seed(random());
  if (random() % 2 == 0) request.stop_token_ids = {5, 6};
  return request;
}

// Sends requests one after the other, cancelling some of them under way.
void RunClient(GroupEngine& engine, const FakeModel& model, uint64_t seed) {
  std::mt19937_64 random(seed);
  for (int i = 0; i < kRequestsPerClient; ++i) {
    const EngineRequest request = RandomRequest(random);
    const std::vector<int32_t> expected = model.Generate(
        request.prompt, request.sampling.seed(), request.max_tokens, request.stop_token_ids);
    auto sink = std::make_shared<CollectingSink>();
    absl::StatusOr<RequestId> id = engine.Submit(request, sink);
    ASSERT_TRUE(id.ok()) << id.status();
    const bool cancel = random() % 4 == 0;
    if (cancel) engine.Cancel(*id);
    const std::optional<RequestOutcome> outcome = sink->WaitForOutcome(kPatience);
    ASSERT_TRUE(outcome.has_value()) << "lost";
    if (outcome->status.ok()) {
      EXPECT_EQ(sink->tokens(), expected);
    } else {
      EXPECT_TRUE(cancel && absl::IsCancelled(outcome->status)) << outcome->status;
    }
  }
}

TEST(GroupEngineThreadsTest, ConcurrentClientsCancelsAndLossesMixNothingUp) {
  const FakeModel model;
  GroupEngine engine(EngineOptions{});
  std::vector<std::thread> clients;
  for (int i = 0; i < kClients; ++i) {
    clients.emplace_back([&, i] { RunClient(engine, model, 1000 + i); });
  }
  absl::Mutex mutex;
  bool done = false;
  std::thread cluster([&] {
    uint64_t epoch = 0;
    bool stop = false;
    while (!stop) {
      ++epoch;
      auto group = std::make_shared<FakeRankGroup>(
          GroupLimits{.epoch = epoch,
                      .pp_size = static_cast<int>(epoch % 3) + 1,
                      .kv_blocks = 8 + static_cast<int64_t>(epoch % 5),
                      .max_batch_tokens = 48,
                      .max_sequences = 3,
                      .context_tokens = 128},
          model, engine);
      engine.OnGroupFormed(group);
      group->RunInBackground();
      {
        absl::MutexLock lock(&mutex);
        stop = mutex.AwaitWithTimeout(absl::Condition(&done), absl::Milliseconds(3));
      }
      group->Lose();
      EXPECT_THAT(group->violations(), ::testing::IsEmpty());
    }
  });
  for (std::thread& client : clients) client.join();
  {
    absl::MutexLock lock(&mutex);
    done = true;
  }
  cluster.join();
  const EngineStats stats = engine.Stats();
  EXPECT_EQ(stats.running_requests + stats.waiting_requests, 0);
  EXPECT_EQ(stats.finished_requests, kClients * kRequestsPerClient);
}

}  // namespace
}  // namespace lockstep::coordinator
