// The daemon's life against a coordinator played by the test: forming, serving, failing, losing the
// coordinator and coming back with the weights.
#include "worker/worker.h"

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "base/version.h"
#include "model/model_examples.h"
#include "worker/testing/batches.h"
#include "worker/testing/fake_coordinator.h"

namespace lockstep::worker {
namespace {

v1::JoinResponse AssignmentFor(uint64_t epoch) {
  v1::JoinResponse message;
  v1::Assignment& assignment = *message.mutable_assignment();
  assignment.set_epoch(epoch);
  assignment.set_tp_size(1);
  assignment.set_pp_size(1);
  assignment.mutable_model()->set_config_json(model::SmallLlamaConfig());
  assignment.mutable_model()->set_load_format(v1::LOAD_FORMAT_DUMMY);
  assignment.mutable_model()->set_dtype("fp32");
  v1::CollectiveGroup& group = *assignment.add_groups();
  group.set_purpose(v1::CollectiveGroup::PURPOSE_TENSOR);
  group.set_name("tp0");
  group.set_transport(v1::TRANSPORT_SOLO);
  group.set_size(1);
  assignment.set_kv_blocks(8);
  assignment.set_max_batch_tokens(32);
  assignment.set_max_sequences(4);
  assignment.set_context_tokens(64);
  return message;
}

v1::JoinResponse Welcome() {
  v1::JoinResponse message;
  message.mutable_welcome()->set_coordinator_version("test");
  return message;
}

v1::JoinResponse Peers(uint64_t epoch) {
  v1::JoinResponse message;
  message.mutable_peers()->set_epoch(epoch);
  return message;
}

class WorkerTest : public testing::Test {
 protected:
  void SetUp() override {
    WorkerOptions options;
    options.registration.set_worker_id("w1");
    options.registration.set_protocol_version(kProtocolVersion);
    options.data_interface = "127.0.0.1";
    options.dial = [this] { return coordinator_.Client(); };
    worker_ = std::make_unique<Worker>(std::move(options));
    running_ = std::thread([this] {
      worker_->Run();
      run_ended_.set_value();
    });
  }
  void TearDown() override {
    worker_->Stop();
    running_.join();
  }

  // Takes the worker's registration and welcomes it.
  std::shared_ptr<FakeCoordinator::JoinWire> Accept(uint64_t highest_epoch) {
    auto wire = coordinator_.NextJoin();
    EXPECT_NE(wire, nullptr);
    v1::JoinRequest registration = NextRequest(*wire);
    EXPECT_EQ(registration.register_().worker_id(), "w1");
    EXPECT_EQ(registration.register_().highest_epoch(), highest_epoch);
    wire->down.Put(Welcome());
    return wire;
  }

  // Leads the worker through an epoch's formation; its Ready.
  v1::Ready Form(FakeCoordinator::JoinWire& wire, uint64_t epoch) {
    wire.down.Put(AssignmentFor(epoch));
    EXPECT_EQ(NextRequest(wire).addresses().epoch(), epoch);
    wire.down.Put(Peers(epoch));
    v1::JoinRequest ready = NextRequest(wire);
    EXPECT_TRUE(ready.has_ready()) << ready.ShortDebugString();
    return ready.ready();
  }

  FakeCoordinator coordinator_;
  std::unique_ptr<Worker> worker_;
  std::promise<void> run_ended_;
  std::thread running_;
};

TEST_F(WorkerTest, FormsAnEpochAndAnswersSteps) {
  auto wire = Accept(0);
  v1::Ready ready = Form(*wire, 1);
  EXPECT_GT(ready.weight_bytes(), 0u);
  EXPECT_GT(ready.load_us(), 0u);
  auto execute = coordinator_.NextExecute();
  ASSERT_TRUE(execute);
  EXPECT_EQ(execute->epoch, 1u);
  BatchComposer composer(1);
  composer.New(BatchComposer::Greedy(1, 3));
  composer.Chunk(1, {1, 2, 3}, true);
  execute->wire->down.Put(composer.Take());
  composer.Decode(1);
  execute->wire->down.Put(composer.Take());
  for (uint64_t step : {1, 2}) {
    auto result = execute->wire->up.Take();
    ASSERT_TRUE(result);
    EXPECT_EQ(result->step_id(), step);
    EXPECT_EQ(result->sampled_size(), 1);
    EXPECT_GT(result->step_ns(), 0u);
  }
}

TEST_F(WorkerTest, KeepsItsWeightsWhenTheCoordinatorComesBack) {
  auto wire = Accept(0);
  EXPECT_GT(Form(*wire, 4).load_us(), 0u);
  auto execute = coordinator_.NextExecute();
  ASSERT_TRUE(execute);
  wire->Close();
  wire = Accept(/*highest_epoch=*/4);
  EXPECT_FALSE(execute->wire->up.Take()) << "no answer, and the old epoch's stream is closed";
  EXPECT_EQ(Form(*wire, 5).load_us(), 0u);
}

TEST_F(WorkerTest, AnAbortEndsTheEpochAndKeepsTheWeights) {
  auto wire = Accept(0);
  Form(*wire, 1);
  auto execute = coordinator_.NextExecute();
  ASSERT_TRUE(execute);
  v1::JoinResponse abort;
  abort.mutable_abort_epoch()->set_epoch(1);
  wire->down.Put(abort);
  EXPECT_FALSE(execute->wire->up.Take()) << "no answer, and the stream is closed";
  EXPECT_EQ(Form(*wire, 2).load_us(), 0u);
}

TEST_F(WorkerTest, ABatchThatMakesNoSenseFailsTheEpochNotTheProcess) {
  auto wire = Accept(0);
  Form(*wire, 1);
  auto execute = coordinator_.NextExecute();
  ASSERT_TRUE(execute);
  v1::StepBatch batch;
  batch.set_epoch(1);
  batch.set_step_id(5);
  execute->wire->down.Put(batch);
  v1::JoinRequest failed = NextRequest(*wire);
  EXPECT_EQ(failed.epoch_failed().epoch(), 1u);
  EXPECT_EQ(failed.epoch_failed().code(), static_cast<int>(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(failed.epoch_failed().message(), "step 5 came after step 0");
  Form(*wire, 2);
}

TEST_F(WorkerTest, AnAssignmentThatMakesNoSenseFailsTheEpochNotTheProcess) {
  auto wire = Accept(0);
  v1::JoinResponse broken = AssignmentFor(1);
  broken.mutable_assignment()->mutable_model()->set_config_json("{");
  wire->down.Put(broken);
  EXPECT_EQ(NextRequest(*wire).epoch_failed().epoch(), 1u);
  v1::JoinResponse illegal = AssignmentFor(2);
  illegal.mutable_assignment()->set_tp_size(3);
  wire->down.Put(illegal);
  EXPECT_EQ(NextRequest(*wire).epoch_failed().epoch(), 2u);
  v1::JoinResponse missing = AssignmentFor(3);
  missing.mutable_assignment()->mutable_model()->set_load_format(v1::LOAD_FORMAT_SAFETENSORS);
  missing.mutable_assignment()->mutable_model()->set_directory("/nonexistent");
  wire->down.Put(missing);
  EXPECT_TRUE(NextRequest(*wire).has_addresses());
  wire->down.Put(Peers(3));
  EXPECT_EQ(NextRequest(*wire).epoch_failed().epoch(), 3u);
  Form(*wire, 4);
}

// The next heartbeat for which `wanted` holds; an empty message if none comes.
v1::Heartbeat NextHeartbeat(FakeCoordinator::JoinWire& wire,
                            const std::function<bool(const v1::Progress&)>& wanted) {
  while (std::optional<v1::JoinRequest> message = wire.up.Take()) {
    if (message->has_heartbeat() && wanted(message->heartbeat().progress())) {
      return message->heartbeat();
    }
  }
  return {};
}

TEST_F(WorkerTest, SendsHeartbeatsOnceItHasJoined) {
  auto wire = Accept(0);
  const v1::Heartbeat first =
      NextHeartbeat(*wire, [](const v1::Progress& progress) { return progress.epoch() == 0; });
  ASSERT_TRUE(first.has_progress()) << "none came";
  EXPECT_EQ(first.progress().phase(), v1::PHASE_IDLE);
  EXPECT_GT(first.progress().resident_bytes(), 0u);
  Form(*wire, 1);
  const v1::Heartbeat second =
      NextHeartbeat(*wire, [](const v1::Progress& progress) { return progress.epoch() == 1; });
  EXPECT_TRUE(second.has_progress()) << "none came once the epoch had formed";
}

TEST_F(WorkerTest, ShutdownEndsRun) {
  auto wire = Accept(0);
  Form(*wire, 1);
  std::future<void> ended = run_ended_.get_future();
  EXPECT_EQ(ended.wait_for(std::chrono::seconds(0)), std::future_status::timeout)
      << "it ended before anybody said so";
  v1::JoinResponse shutdown;
  shutdown.mutable_shutdown()->set_reason("enough");
  wire->down.Put(shutdown);
  EXPECT_EQ(ended.wait_for(std::chrono::seconds(30)), std::future_status::ready);
}

}  // namespace
}  // namespace lockstep::worker
