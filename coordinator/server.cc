// What is made in which order, and taken down in the reverse one.
#include "coordinator/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <chrono>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "coordinator/cluster/admin_service.h"
#include "coordinator/cluster/cluster.h"
#include "coordinator/cluster/cluster_service.h"
#include "coordinator/engine/replicated_engine.h"
#include "coordinator/serve/inference_service.h"
#include "coordinator/serve/serving_context.h"

namespace lockstep::coordinator {
namespace {

constexpr int kMaxMessageBytes = 16 << 20;
constexpr std::chrono::milliseconds kGraceForStreams{1000};
// A dead host is noticed after the sum of these two.
constexpr int kKeepaliveMs = 10000;
constexpr int kKeepaliveTimeoutMs = 10000;
constexpr int kLeastPingIntervalMs = 1000;

/// Tells grpc.health.v1 whether InferenceService serves; before the server stands, remembers it.
class HealthReporter {
 public:
  void Attach(grpc::HealthCheckServiceInterface* health) {
    absl::MutexLock lock(&mutex_);
    health_ = health;
    Report();
  }
  void SetServing(bool serving) {
    absl::MutexLock lock(&mutex_);
    serving_ = serving;
    Report();
  }

 private:
  void Report() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (health_ == nullptr) return;
    health_->SetServingStatus(v1::InferenceService::service_full_name(), serving_);
  }

  absl::Mutex mutex_;
  grpc::HealthCheckServiceInterface* health_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool serving_ ABSL_GUARDED_BY(mutex_) = false;
};

class GrpcServer final : public Server {
 public:
  GrpcServer(ModelSetUp model, const EngineOptions& engine, ListenAddress address)
      : address_(std::move(address)),
        tokenizer_(std::move(model.tokenizer)),
        engine_(model.cluster.replicas, engine),
        cluster_(std::move(model.cluster), Observers(),
                 [this](bool serving) { health_.SetServing(serving); }),
        served_(std::move(model.served)),
        chat_template_(std::move(model.chat_template)),
        inference_service_(Serving()),
        cluster_service_(&cluster_),
        admin_service_(&cluster_, [this] { return Usage(); }) {}

  ~GrpcServer() override { Stop(); }

  absl::Status Start() {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort(address_.ToString(), grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&inference_service_);
    builder.RegisterService(&cluster_service_);
    builder.RegisterService(&admin_service_);
    builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
    // Another coordinator on the same port is an error, not a partner.
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                               kLeastPingIntervalMs);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("cannot listen on ", address_.ToString(),
                       ": the port is taken or the address is not of this machine; --listen takes "
                       "HOST:PORT, and port 0 chooses a free one"));
    }
    address_.port = port;
    health_.Attach(server_->GetHealthCheckService());
    return absl::OkStatus();
  }

  const ListenAddress& address() const override { return address_; }

  void Stop() override {
    if (server_ == nullptr) return;
    cluster_.Shutdown("the coordinator has been stopped");
    engine_.Shutdown();
    server_->Shutdown(std::chrono::system_clock::now() + kGraceForStreams);
    health_.Attach(nullptr);
    server_.reset();
  }

 private:
  std::vector<GroupObserver*> Observers() {
    std::vector<GroupObserver*> observers;
    for (int i = 0; i < engine_.size(); ++i) observers.push_back(&engine_.replica(i));
    return observers;
  }

  std::vector<EngineStats> Usage() const {
    std::vector<EngineStats> usage;
    for (int i = 0; i < engine_.size(); ++i) usage.push_back(engine_.replica(i).Stats());
    return usage;
  }

  ServingContext Serving() {
    return {.model = served_,
            .tokenizer = *tokenizer_,
            .chat_template = chat_template_.get(),
            .engine = engine_};
  }

  ListenAddress address_;
  HealthReporter health_;
  std::unique_ptr<text::Tokenizer> tokenizer_;
  ReplicatedEngine engine_;
  Cluster cluster_;
  const ServedModel served_;
  const std::unique_ptr<text::ChatTemplate> chat_template_;
  InferenceService inference_service_;
  ClusterService cluster_service_;
  AdminService admin_service_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> StartServer(ModelSetUp model, const EngineOptions& engine,
                                                    const ListenAddress& address) {
  auto server = std::make_unique<GrpcServer>(std::move(model), engine, address);
  absl::Status started = server->Start();
  if (!started.ok()) return started;
  return server;
}

}  // namespace lockstep::coordinator
