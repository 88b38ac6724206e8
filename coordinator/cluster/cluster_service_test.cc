// The services with fake workers over real gRPC.
#include "coordinator/cluster/cluster_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "base/version.h"
#include "coordinator/cluster/testing/fake_worker.h"
#include "coordinator/cluster/testing/small_cluster.h"
#include "proto/lockstep/v1/admin.grpc.pb.h"

namespace lockstep::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::StepBatch Batch(const RankGroup& group, uint64_t step) {
  v1::StepBatch batch;
  batch.set_epoch(group.limits().epoch);
  batch.set_step_id(step);
  v1::SequenceChunk& chunk = *batch.add_chunks();
  chunk.set_sequence_id(1);
  chunk.set_first_position(static_cast<uint32_t>(step));
  chunk.set_sample(true);
  return batch;
}

FakeWorker::Options Rank(int index) {
  return {.worker_id = "w" + std::to_string(index), .local_index = static_cast<uint32_t>(index)};
}

class ClusterServiceTest : public ::testing::Test {
 protected:
  void Start(int tp, int pp) { cluster_.emplace(SmallClusterConfig(tp, pp), &observer_); }
  FakeWorker& Add(FakeWorker::Options options) {
    workers_.push_back(std::make_unique<FakeWorker>(cluster_->Connect(), std::move(options)));
    return *workers_.back();
  }
  ~ClusterServiceTest() override { EXPECT_FALSE(observer_.disorder()); }

  RecordingObserver observer_;
  std::optional<SmallCluster> cluster_;
  std::vector<std::unique_ptr<FakeWorker>> workers_;
};

TEST_F(ClusterServiceTest, EveryRankGetsTheSameBytesAndTheFirstOfTheLastStageReports) {
  Start(2, 2);
  for (int i = 0; i < 4; ++i) Add(Rank(i));
  std::shared_ptr<RankGroup> group = observer_.WaitForGroup();
  ASSERT_NE(group, nullptr);
  EXPECT_EQ(group->limits().pp_size, 2);
  group->Submit(Batch(*group, 1));
  ASSERT_TRUE(observer_.WaitForSteps(1));
  ASSERT_EQ(observer_.steps()[0].sampled_size(), 1);
  EXPECT_EQ(observer_.steps()[0].sampled(0).token_id(), 2);
  v1::ExecuteResponse expected;
  *expected.mutable_batch() = Batch(*group, 1);
  for (const auto& worker : workers_) {
    EXPECT_THAT(worker->batches(), ElementsAre(expected.SerializeAsString()));
  }
}

TEST_F(ClusterServiceTest, ManyBatchesAtOnceAreAnsweredInOrder) {
  Start(2, 1);
  Add(Rank(0));
  Add(Rank(1));
  std::shared_ptr<RankGroup> group = observer_.WaitForGroup();
  ASSERT_NE(group, nullptr);
  constexpr uint64_t kSteps = 500;
  for (uint64_t step = 1; step <= kSteps; ++step) group->Submit(Batch(*group, step));
  ASSERT_TRUE(observer_.WaitForSteps(kSteps));
  std::vector<v1::StepResult> steps = observer_.steps();
  for (uint64_t i = 0; i < kSteps; ++i) EXPECT_EQ(steps[i].step_id(), i + 1);
}

TEST_F(ClusterServiceTest, AKilledWorkerEndsTheEpochAndItsSuccessorServesInTheNext) {
  Start(2, 1);
  Add(Rank(0));
  FakeWorker& victim = Add(Rank(1));
  std::shared_ptr<RankGroup> group = observer_.WaitForGroup();
  ASSERT_NE(group, nullptr);
  victim.Kill();
  std::optional<absl::Status> reason = observer_.WaitForLoss(1);
  ASSERT_TRUE(reason.has_value());
  EXPECT_EQ(reason->code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(reason->message()), HasSubstr("rank 1"));
  group->Submit(Batch(*group, 1));  // does nothing
  Add(Rank(2));
  group = observer_.WaitForGroup(/*after=*/1);
  ASSERT_NE(group, nullptr);
  group->Submit(Batch(*group, 1));
  ASSERT_TRUE(observer_.WaitForSteps(1));
  EXPECT_EQ(observer_.steps()[0].epoch(), group->limits().epoch);
}

TEST_F(ClusterServiceTest, ABrokenExecuteStreamEndsTheEpochAndTheSameWorkersFormAgain) {
  Start(2, 1);
  Add(Rank(0)).WaitForMessage(v1::JoinResponse::kWelcome, kTestDeadline);
  FakeWorker& broken = Add(Rank(1));
  ASSERT_NE(observer_.WaitForGroup(), nullptr);
  broken.BreakExecute();
  ASSERT_TRUE(observer_.WaitForLoss(1).has_value());
  std::shared_ptr<RankGroup> group = observer_.WaitForGroup(/*after=*/1);
  ASSERT_NE(group, nullptr);
  group->Submit(Batch(*group, 1));
  EXPECT_TRUE(observer_.WaitForSteps(1));
}

TEST_F(ClusterServiceTest, RanksThatDisagreeEndTheEpochWithoutAStep) {
  Start(2, 1);
  std::atomic<bool> lie = true;
  FakeWorker::Options liar = Rank(1);
  liar.on_batch = [&lie](const v1::Assignment& assignment, const v1::StepBatch& batch) {
    std::optional<v1::StepResult> result = FakeWorker::Answer(assignment, batch);
    if (lie.exchange(false)) result->set_state_digest(7);
    return result;
  };
  Add(Rank(0));
  Add(liar);
  std::shared_ptr<RankGroup> group = observer_.WaitForGroup();
  ASSERT_NE(group, nullptr);
  group->Submit(Batch(*group, 1));
  std::optional<absl::Status> reason = observer_.WaitForLoss(1);
  ASSERT_TRUE(reason.has_value());
  EXPECT_THAT(std::string(reason->message()), HasSubstr("after step 1 the ranks disagree"));
  EXPECT_EQ(observer_.steps().size(), 0);
  group = observer_.WaitForGroup(/*after=*/1);
  ASSERT_NE(group, nullptr);
  group->Submit(Batch(*group, 1));
  EXPECT_TRUE(observer_.WaitForSteps(1));
}

TEST_F(ClusterServiceTest, APermanentFailureIsToldByAdminServiceAndANewWorkerEndsIt) {
  Start(1, 1);
  FakeWorker::Options failing = Rank(0);
  failing.on_control = [](const v1::JoinResponse& message) {
    if (!message.has_peers()) return FakeWorker::Obey(message);
    std::vector<v1::JoinRequest> answers(1);
    answers[0].mutable_epoch_failed()->set_epoch(message.peers().epoch());
    answers[0].mutable_epoch_failed()->set_code(static_cast<int>(absl::StatusCode::kDataLoss));
    answers[0].mutable_epoch_failed()->set_message("model.safetensors is cut short");
    return answers;
  };
  FakeWorker& worker = Add(failing);
  v1::GetTopologyResponse topology = cluster_->WaitForState(v1::CLUSTER_STATE_FAILED);
  EXPECT_EQ(topology.state(), v1::CLUSTER_STATE_FAILED);
  EXPECT_THAT(topology.detail(), HasSubstr("model.safetensors is cut short"));
  EXPECT_TRUE(worker.WaitForMessage(v1::JoinResponse::kAbortEpoch, kTestDeadline));
  worker.Kill();
  EXPECT_EQ(cluster_->WaitForState(v1::CLUSTER_STATE_WAITING).workers_size(), 0);
  Add(Rank(1));
  EXPECT_NE(observer_.WaitForGroup(), nullptr);
}

TEST_F(ClusterServiceTest, TopologyTellsWhoDoesWhat) {
  Start(1, 2);
  Add(Rank(0));
  FakeWorker::Options far = Rank(1);
  far.node = "b";
  Add(far);
  std::shared_ptr<RankGroup> group = observer_.WaitForGroup();
  ASSERT_NE(group, nullptr);
  group->Submit(Batch(*group, 1));
  ASSERT_TRUE(observer_.WaitForSteps(1));
  FakeWorker& spare = Add(Rank(2));
  ASSERT_TRUE(spare.WaitForMessage(v1::JoinResponse::kWelcome, kTestDeadline));
  v1::GetTopologyResponse topology = cluster_->WaitForState(v1::CLUSTER_STATE_SERVING);
  EXPECT_EQ(topology.epoch(), 1);
  EXPECT_EQ(topology.model(), "small");
  EXPECT_EQ(topology.architecture(), "LlamaForCausalLM");
  EXPECT_EQ(topology.dtype(), "bf16");
  EXPECT_EQ(topology.tp_size(), 1);
  EXPECT_EQ(topology.pp_size(), 2);
  EXPECT_EQ(topology.context_tokens(), 64);
  EXPECT_EQ(topology.kv_blocks(), 16);
  EXPECT_EQ(topology.running_requests(), 1);
  EXPECT_EQ(topology.waiting_requests(), 2);
  EXPECT_EQ(topology.kv_blocks_used(), 3);
  ASSERT_EQ(topology.workers_size(), 3);
  const v1::WorkerStatus& last = topology.workers(1);
  EXPECT_EQ(last.rank(), 1);
  EXPECT_EQ(last.worker_id(), "w1");
  EXPECT_EQ(last.node(), "b");
  EXPECT_EQ(last.device(), "fake:1");
  EXPECT_EQ(last.pp_stage(), 1);
  EXPECT_EQ(last.layer_begin(), 2);
  EXPECT_EQ(last.layer_end(), 4);
  EXPECT_EQ(last.weight_bytes(), 1000);
  EXPECT_EQ(last.kv_bytes(), 2000);
  EXPECT_EQ(last.loaded_bytes(), 1000);
  EXPECT_EQ(last.last_step_ns(), 1000);
  EXPECT_EQ(last.last_wait_ns(), 100);
  EXPECT_EQ(last.groups_size(), 3);
  EXPECT_FALSE(topology.workers(2).has_rank());
}

TEST_F(ClusterServiceTest, TheSameWorkerOnANewStreamReplacesItsOldSelf) {
  Start(1, 1);
  FakeWorker& old = Add(Rank(0));
  ASSERT_NE(observer_.WaitForGroup(), nullptr);
  FakeWorker::Options again = Rank(0);
  again.highest_epoch = 1;
  Add(again);
  std::optional<grpc::Status> end = old.WaitForEnd(kTestDeadline);
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->error_code(), grpc::StatusCode::ABORTED);
  EXPECT_NE(observer_.WaitForGroup(/*after=*/1), nullptr);
}

TEST_F(ClusterServiceTest, ShutdownSendsEveryWorkerHomeAndTellsTheEngine) {
  Start(1, 1);
  FakeWorker& ranked = Add(Rank(0));
  ASSERT_NE(observer_.WaitForGroup(), nullptr);
  FakeWorker& spare = Add(Rank(1));
  ASSERT_TRUE(spare.WaitForMessage(v1::JoinResponse::kWelcome, kTestDeadline));
  cluster_->cluster().Shutdown("enough");
  EXPECT_TRUE(ranked.WaitForMessage(v1::JoinResponse::kShutdown, kTestDeadline));
  EXPECT_TRUE(spare.WaitForMessage(v1::JoinResponse::kShutdown, kTestDeadline));
  EXPECT_TRUE(observer_.WaitForLoss(1).has_value());
  EXPECT_TRUE(ranked.WaitForEnd(kTestDeadline)->ok());
}

/// One message up a Join stream, and how the stream ends.
grpc::StatusCode EndOfJoin(std::shared_ptr<grpc::Channel> channel, const v1::JoinRequest& first) {
  auto stub = v1::ClusterService::NewStub(channel);
  grpc::ClientContext context;
  auto stream = stub->Join(&context);
  stream->Write(first);
  v1::JoinResponse response;
  while (stream->Read(&response)) {
  }
  return stream->Finish().error_code();
}

grpc::StatusCode EndOfExecute(std::shared_ptr<grpc::Channel> channel,
                              const v1::ExecuteRequest& first) {
  auto stub = v1::ClusterService::NewStub(channel);
  grpc::ClientContext context;
  auto stream = stub->Execute(&context);
  stream->Write(first);
  v1::ExecuteResponse response;
  while (stream->Read(&response)) {
  }
  return stream->Finish().error_code();
}

TEST_F(ClusterServiceTest, StreamsThatBeginWronglyEndWithTheCodesOfTheContract) {
  Start(1, 1);
  v1::JoinRequest join;
  EXPECT_EQ(EndOfJoin(cluster_->Connect(), join), grpc::StatusCode::INVALID_ARGUMENT);
  join.mutable_ready()->set_epoch(1);
  EXPECT_EQ(EndOfJoin(cluster_->Connect(), join), grpc::StatusCode::INVALID_ARGUMENT);
  join.mutable_register_()->set_protocol_version(99);
  EXPECT_EQ(EndOfJoin(cluster_->Connect(), join), grpc::StatusCode::FAILED_PRECONDITION);
  v1::ExecuteRequest execute;
  EXPECT_EQ(EndOfExecute(cluster_->Connect(), execute), grpc::StatusCode::INVALID_ARGUMENT);
  execute.mutable_hello()->set_epoch(3);
  EXPECT_EQ(EndOfExecute(cluster_->Connect(), execute), grpc::StatusCode::FAILED_PRECONDITION);
}

TEST_F(ClusterServiceTest, ASecondRegisterEndsTheStreamAndTheMembership) {
  Start(2, 1);
  FakeWorker& worker = Add(Rank(0));
  v1::JoinRequest again;
  again.mutable_register_()->set_protocol_version(kProtocolVersion);
  worker.Send(again);
  std::optional<grpc::Status> end = worker.WaitForEnd(kTestDeadline);
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(cluster_->WaitForState(v1::CLUSTER_STATE_WAITING).workers_size(), 0);
}

TEST_F(ClusterServiceTest, WorkersThatComeAndGoAtWillLeaveNoDisorder) {
  Start(2, 1);
  for (int round = 0; round < 20; ++round) {
    FakeWorker& worker = Add(Rank(round));
    if (round % 3 == 2)
      worker.WaitForMessage(v1::JoinResponse::kAssignment, absl::Milliseconds(20));
    if (round >= 2 && round % 2 == 0) workers_[round / 2]->Kill();
    if (round % 5 == 4) workers_[round - 1]->BreakExecute();
  }
  v1::GetTopologyResponse topology = cluster_->WaitForState(v1::CLUSTER_STATE_SERVING);
  EXPECT_EQ(topology.state(), v1::CLUSTER_STATE_SERVING) << topology.detail();
}

}  // namespace
}  // namespace lockstep::coordinator
