// See small_cluster.h.
#include "coordinator/cluster/testing/small_cluster.h"

#include <glog/logging.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "model/model_examples.h"
#include "model/parallel_plan.h"
#include "proto/lockstep/v1/admin.grpc.pb.h"

namespace lockstep::coordinator {

ClusterConfig SmallClusterConfig(int tp, int pp) {
  absl::StatusOr<model::ParallelPlan> plan = model::MakeParallelPlan(
      model::SpecOf(model::SmallLlamaConfig()),
      {.tp_size = tp, .pp_size = pp, .context_tokens = 64, .batch_tokens = 128});
  CHECK(plan.ok()) << plan.status();
  ClusterConfig config;
  config.plan = *std::move(plan);
  config.model.set_directory("/models/small");
  config.model.set_dtype("bf16");
  config.model_name = "small";
  config.architecture = "LlamaForCausalLM";
  config.max_sequences = 4;
  return config;
}

void RecordingObserver::OnGroupFormed(std::shared_ptr<RankGroup> group) {
  absl::MutexLock lock(&mutex_);
  disorder_ |= losses_.size() != groups_.size();
  disorder_ |= !groups_.empty() && groups_.back()->limits().epoch >= group->limits().epoch;
  groups_.push_back(std::move(group));
}

void RecordingObserver::OnStepDone(const v1::StepResult& result) {
  absl::MutexLock lock(&mutex_);
  disorder_ |= groups_.size() != losses_.size() + 1;
  disorder_ |= groups_.empty() || groups_.back()->limits().epoch != result.epoch();
  steps_.push_back(result);
}

void RecordingObserver::OnGroupLost(uint64_t epoch, const absl::Status& reason) {
  absl::MutexLock lock(&mutex_);
  disorder_ |= groups_.size() != losses_.size() + 1;
  disorder_ |= groups_.empty() || groups_.back()->limits().epoch != epoch;
  losses_.emplace_back(epoch, reason);
}

std::shared_ptr<RankGroup> RecordingObserver::WaitForGroup(uint64_t after) const {
  absl::MutexLock lock(&mutex_);
  auto formed = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !groups_.empty() && groups_.back()->limits().epoch > after;
  };
  return mutex_.AwaitWithTimeout(absl::Condition(&formed), kTestDeadline) ? groups_.back()
                                                                          : nullptr;
}

std::optional<absl::Status> RecordingObserver::WaitForLoss(uint64_t epoch) const {
  absl::MutexLock lock(&mutex_);
  auto lost = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !losses_.empty() && losses_.back().first >= epoch;
  };
  if (!mutex_.AwaitWithTimeout(absl::Condition(&lost), kTestDeadline)) return std::nullopt;
  for (const auto& [number, reason] : losses_) {
    if (number == epoch) return reason;
  }
  return std::nullopt;
}

bool RecordingObserver::WaitForSteps(size_t count) const {
  absl::MutexLock lock(&mutex_);
  auto enough = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return steps_.size() >= count; };
  return mutex_.AwaitWithTimeout(absl::Condition(&enough), kTestDeadline);
}

std::vector<v1::StepResult> RecordingObserver::steps() const {
  absl::MutexLock lock(&mutex_);
  return steps_;
}

bool RecordingObserver::disorder() const {
  absl::MutexLock lock(&mutex_);
  return disorder_;
}

SmallCluster::SmallCluster(ClusterConfig config, std::vector<GroupObserver*> observers)
    : cluster_(std::move(config), observers),
      service_(&cluster_),
      admin_service_(&cluster_, [replicas = observers.size()] {
        return std::vector<EngineStats>(
            replicas,
            EngineStats{.running_requests = 1, .waiting_requests = 2, .kv_blocks_used = 3});
      }) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
  builder.RegisterService(&service_);
  builder.RegisterService(&admin_service_);
  server_ = builder.BuildAndStart();
  CHECK(server_ != nullptr);
}

SmallCluster::~SmallCluster() {
  cluster_.Shutdown("the test is over");
  server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
}

std::string SmallCluster::address() const { return "127.0.0.1:" + std::to_string(port_); }

std::shared_ptr<grpc::Channel> SmallCluster::Connect() const {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(address(), grpc::InsecureChannelCredentials(), arguments);
}

v1::GetTopologyResponse SmallCluster::WaitForState(v1::ClusterState state) const {
  auto stub = v1::AdminService::NewStub(Connect());
  const absl::Time deadline = absl::Now() + kTestDeadline;
  v1::GetTopologyResponse topology;
  do {
    grpc::ClientContext context;
    grpc::Status status = stub->GetTopology(&context, {}, &topology);
    CHECK(status.ok()) << status.error_message();
  } while (topology.state() != state && absl::Now() < deadline);
  return topology;
}

}  // namespace lockstep::coordinator
