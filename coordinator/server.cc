// What is made in which order, and taken down in the reverse one.
#include "coordinator/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "coordinator/cluster/admin_service.h"
#include "coordinator/cluster/cluster.h"
#include "coordinator/cluster/cluster_service.h"
#include "coordinator/engine/replicated_engine.h"
#include "coordinator/http/http_server.h"
#include "coordinator/http/routes.h"
#include "coordinator/serve/inference_service.h"
#include "coordinator/serve/seeding_engine.h"
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
  bool serving() const {
    absl::MutexLock lock(&mutex_);
    return serving_;
  }

 private:
  void Report() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (health_ == nullptr) return;
    health_->SetServingStatus(v1::InferenceService::service_full_name(), serving_);
  }

  mutable absl::Mutex mutex_;
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
        seeding_engine_(MakeSeedingEngine(model.seed)),
        inference_service_(Serving()),
        routes_(Serving(), [this] { return NotServingReason(); }),
        cluster_service_(&cluster_),
        admin_service_(&cluster_, [this] { return Usage(); }) {}

  ~GrpcServer() override { Stop(); }

  absl::Status StartHttp(const ListenAddress& address) {
    absl::StatusOr<std::unique_ptr<HttpServer>> started =
        HttpServer::Start(address.host, address.port,
                          [this](const HttpRequest& request) { return routes_.Answer(request); });
    if (!started.ok()) return started.status();
    http_ = *std::move(started);
    http_address_ = address;
    http_address_->port = http_->port();
    return absl::OkStatus();
  }

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
    // Nobody asks for either, and every token would pay for them.
    builder.AddChannelArgument(GRPC_ARG_ENABLE_CHANNELZ, 0);
    builder.AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_COMPRESSION, 0);
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
  const std::optional<ListenAddress>& http_address() const override { return http_address_; }

  void Stop() override {
    if (server_ == nullptr) return;
    cluster_.Shutdown("the coordinator has been stopped");
    engine_.Shutdown();
    if (http_ != nullptr) http_->Stop();
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

  std::optional<std::string> NotServingReason() const {
    if (health_.serving()) return std::nullopt;
    return cluster_.Topology().detail();
  }

  std::unique_ptr<SeedingEngine> MakeSeedingEngine(std::optional<uint64_t> seed) {
    return seed ? std::make_unique<SeedingEngine>(*seed, engine_) : nullptr;
  }

  ServingContext Serving() {
    return {
        .model = served_,
        .tokenizer = *tokenizer_,
        .chat_template = chat_template_.get(),
        .engine = seeding_engine_ != nullptr ? *seeding_engine_ : static_cast<Engine&>(engine_)};
  }

  ListenAddress address_;
  HealthReporter health_;
  std::unique_ptr<text::Tokenizer> tokenizer_;
  ReplicatedEngine engine_;
  Cluster cluster_;
  const ServedModel served_;
  const std::unique_ptr<text::ChatTemplate> chat_template_;
  const std::unique_ptr<SeedingEngine> seeding_engine_;
  InferenceService inference_service_;
  const Routes routes_;
  ClusterService cluster_service_;
  AdminService admin_service_;
  std::unique_ptr<grpc::Server> server_;
  std::optional<ListenAddress> http_address_;
  // Last: its threads use all of the above.
  std::unique_ptr<HttpServer> http_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> StartServer(ModelSetUp model, const EngineOptions& engine,
                                                    const ListenAddress& address,
                                                    const std::optional<ListenAddress>& http) {
  auto server = std::make_unique<GrpcServer>(std::move(model), engine, address);
  absl::Status started = server->Start();
  if (started.ok() && http) started = server->StartHttp(*http);
  if (!started.ok()) return started;
  return server;
}

}  // namespace lockstep::coordinator
