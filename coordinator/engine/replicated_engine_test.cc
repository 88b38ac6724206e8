// ReplicatedEngine on fake groups: where requests go, and that replicas leave each other alone.
#include "coordinator/engine/replicated_engine.h"

#include <set>

#include "coordinator/engine/testing/collecting_sink.h"
#include "coordinator/engine/testing/fake_model.h"
#include "coordinator/engine/testing/fake_rank_group.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lockstep::coordinator {
namespace {

using ::testing::IsEmpty;

EngineRequest MakeRequest(int64_t length, int32_t start, int64_t max_tokens) {
  EngineRequest request;
  for (int64_t i = 0; i < length; ++i) {
    request.prompt.push_back(static_cast<int32_t>((start + i * 5) % 64));
  }
  request.max_tokens = max_tokens;
  request.sampling.set_temperature(1.0);
  request.sampling.set_top_k(0);
  request.sampling.set_top_p(1.0);
  request.sampling.set_seed(11);
  return request;
}

class ReplicatedEngineTest : public ::testing::Test {
 protected:
  std::shared_ptr<FakeRankGroup> Form(int replica, uint64_t epoch) {
    auto group = std::make_shared<FakeRankGroup>(GroupLimits{.epoch = epoch,
                                                             .kv_blocks = 64,
                                                             .max_batch_tokens = 64,
                                                             .max_sequences = 16,
                                                             .context_tokens = 512},
                                                 model_, engine_.replica(replica));
    engine_.replica(replica).OnGroupFormed(group);
    return group;
  }

  std::shared_ptr<CollectingSink> Start(const EngineRequest& request) {
    auto sink = std::make_shared<CollectingSink>();
    absl::StatusOr<RequestId> id = engine_.Submit(request, sink);
    EXPECT_TRUE(id.ok()) << id.status();
    if (id.ok()) ids_.push_back(*id);
    return sink;
  }

  int64_t Unfinished(int replica) {
    const EngineStats stats = engine_.replica(replica).Stats();
    return stats.running_requests + stats.waiting_requests;
  }

  void ExpectComplete(const EngineRequest& request, const CollectingSink& sink) {
    EXPECT_EQ(sink.tokens(),
              model_.Generate(request.prompt, request.sampling.seed(), request.max_tokens, {}));
  }

  FakeModel model_;
  ReplicatedEngine engine_{2, EngineOptions{.max_queue = 7}};
  std::vector<RequestId> ids_;
};

TEST_F(ReplicatedEngineTest, RequestsSpreadByLoadAndEachIsCancelledWhereItRuns) {
  auto first = Form(0, 1);
  auto second = Form(1, 2);
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (int i = 0; i < 6; ++i) sinks.push_back(Start(MakeRequest(10, i, 50)));
  EXPECT_EQ(Unfinished(0), 3);
  EXPECT_EQ(Unfinished(1), 3);
  EXPECT_EQ(std::set<RequestId>(ids_.begin(), ids_.end()).size(), 6u) << "an id came twice";
  engine_.Cancel(ids_[1]);
  EXPECT_TRUE(absl::IsCancelled(sinks[1]->outcome()->status));
  EXPECT_EQ(Unfinished(0) + Unfinished(1), 5);
  EXPECT_EQ(engine_.Stats().kv_blocks, 128);
}

TEST_F(ReplicatedEngineTest, ARequestGoesWhereItsPrefixIsCached) {
  auto first = Form(0, 1);
  auto second = Form(1, 2);
  // One on each: the first goes to replica 0, the second, which finds that busy, to replica 1.
  Start(MakeRequest(100, 1, 5));
  Start(MakeRequest(100, 2, 5));
  first->RunUntilIdle();
  second->RunUntilIdle();
  for (int i = 0; i < 3; ++i) {
    const EngineRequest request = MakeRequest(120, 2, 5);
    auto sink = Start(request);
    EXPECT_EQ(Unfinished(1), 1);
    second->RunUntilIdle();
    EXPECT_GE(sink->outcome()->cached_tokens, 96);
    ExpectComplete(request, *sink);
  }
}

TEST_F(ReplicatedEngineTest, LosingOneGroupLeavesTheOthersRequestsAlone) {
  auto first = Form(0, 1);
  auto second = Form(1, 2);
  const EngineRequest a = MakeRequest(30, 1, 40);
  const EngineRequest b = MakeRequest(30, 2, 40);
  auto on_first = Start(a);
  auto on_second = Start(b);
  for (int i = 0; i < 5; ++i) {
    first->Step();
    second->Step();
  }
  first->Lose();
  EXPECT_EQ(engine_.replica(0).Stats().running_requests, 0);
  EXPECT_EQ(Unfinished(1), 1);
  // What comes in meanwhile goes where it can run.
  const EngineRequest c = MakeRequest(30, 3, 40);
  auto newcomer = Start(c);
  EXPECT_EQ(Unfinished(1), 2);
  second->RunUntilIdle();
  ExpectComplete(b, *on_second);
  ExpectComplete(c, *newcomer);
  EXPECT_FALSE(on_first->outcome().has_value());
  Form(0, 3)->RunUntilIdle();
  ExpectComplete(a, *on_first);
  EXPECT_THAT(second->violations(), IsEmpty());
}

TEST_F(ReplicatedEngineTest, ItRefusesOnlyWhenEveryQueueIsFull) {
  // 7 over 2 replicas, rounded up, make 8.
  for (int i = 0; i < 8; ++i) Start(MakeRequest(10, i, 5));
  auto sink = std::make_shared<CollectingSink>();
  EXPECT_TRUE(absl::IsResourceExhausted(engine_.Submit(MakeRequest(10, 9, 5), sink).status()));
  EXPECT_EQ(engine_.Stats().waiting_requests, 8);
}

}  // namespace
}  // namespace lockstep::coordinator
