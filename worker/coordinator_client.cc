// gRPC's synchronous API: measured faster than the callback API for one small message each way, and
// a Write never starts before the former one is done.
#include "worker/coordinator_client.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>
#include <pthread.h>
#include <sched.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/grpc_status.h"
#include "glog/logging.h"
#include "proto/lockstep/v1/cluster.grpc.pb.h"

namespace lockstep::worker {
namespace {

using Stub = v1::ClusterService::Stub;

// So that a coordinator whose machine has vanished is noticed; it allows a ping a second.
constexpr int kKeepaliveMs = 10000;

enum class Keepalive { kNo, kYes };

std::shared_ptr<Stub> NewStub(const std::string& address, Keepalive keepalive) {
  grpc::ChannelArguments arguments;
  if (keepalive == Keepalive::kYes) {
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveMs);
  }
  // A connection and a connection back-off of its own for every stream.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetMaxReceiveMessageSize(-1);
  return v1::ClusterService::NewStub(
      grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), std::move(arguments)));
}

class GrpcJoinStream final : public JoinStream {
 public:
  explicit GrpcJoinStream(std::shared_ptr<Stub> stub)
      : stub_(std::move(stub)), stream_(stub_->Join(&context_)) {}

  bool Send(const v1::JoinRequest& message) override {
    std::lock_guard lock(write_mutex_);
    return stream_->Write(message);
  }
  std::optional<v1::JoinResponse> Receive() override {
    v1::JoinResponse message;
    if (!stream_->Read(&message)) return std::nullopt;
    return message;
  }
  absl::Status Finish() override { return FromGrpcStatus(stream_->Finish()); }
  void Cancel() override { context_.TryCancel(); }

 private:
  const std::shared_ptr<Stub> stub_;
  grpc::ClientContext context_;
  const std::unique_ptr<grpc::ClientReaderWriter<v1::JoinRequest, v1::JoinResponse>> stream_;
  std::mutex write_mutex_;
};

class GrpcBatchStream final : public BatchStream {
 public:
  GrpcBatchStream(std::shared_ptr<Stub> stub, uint64_t epoch, uint32_t rank)
      : stub_(std::move(stub)), stream_(stub_->Execute(&context_)) {
    v1::ExecuteRequest request;
    request.mutable_hello()->set_epoch(epoch);
    request.mutable_hello()->set_rank(rank);
    stream_->Write(request);
    sender_ = std::thread([this] { SendResults(); });
  }
  ~GrpcBatchStream() override {
    if (!finished_) context_.TryCancel();
    {
      std::lock_guard lock(mutex_);
      ending_ = true;
    }
    changed_.notify_one();
    sender_.join();
    if (!finished_) stream_->Finish();
  }

  absl::StatusOr<std::optional<v1::StepBatch>> Next() override {
    if (stream_->Read(&response_)) return std::move(*response_.mutable_batch());
    finished_ = true;
    absl::Status status = FromGrpcStatus(stream_->Finish());
    if (status.ok()) return std::optional<v1::StepBatch>();
    return absl::Status(status.code(), absl::StrCat("the Execute stream: ", status.message()));
  }
  void Give(v1::StepResult result) override {
    {
      std::lock_guard lock(mutex_);
      results_.push_back(std::move(result));
    }
    changed_.notify_one();
  }
  void Cancel() override { context_.TryCancel(); }

 private:
  // A Write returns when the bytes are out, and on a machine whose processors all compute the
  // coordinator first runs on this one: half a millisecond, in which the next step can begin.
  void SendResults() {
    // Waking a batch thread does not push the compute thread off its processor: where all of them
    // compute, it runs when one of them waits for another, or at the scheduler's next tick.
    const sched_param no_priority{};
    if (pthread_setschedparam(pthread_self(), SCHED_BATCH, &no_priority) != 0) {
      LOG(WARNING) << "results are sent with the compute threads' priority";
    }
    v1::ExecuteRequest request;
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return ending_ || !results_.empty(); });
      if (results_.empty()) return;
      *request.mutable_result() = std::move(results_.front());
      results_.pop_front();
      lock.unlock();
      // A broken stream shows in the next Read.
      stream_->Write(request);
      lock.lock();
    }
  }

  const std::shared_ptr<Stub> stub_;
  grpc::ClientContext context_;
  const std::unique_ptr<grpc::ClientReaderWriter<v1::ExecuteRequest, v1::ExecuteResponse>> stream_;
  v1::ExecuteResponse response_;
  bool finished_ = false;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<v1::StepResult> results_;  // guarded by mutex_
  bool ending_ = false;                 // guarded by mutex_
  std::thread sender_;
};

class GrpcCoordinatorClient final : public CoordinatorClient {
 public:
  explicit GrpcCoordinatorClient(std::string address) : address_(std::move(address)) {}

  std::unique_ptr<JoinStream> Join() override {
    return std::make_unique<GrpcJoinStream>(NewStub(address_, Keepalive::kYes));
  }
  std::unique_ptr<BatchStream> Execute(uint64_t epoch, uint32_t rank) override {
    // Its end follows that of the Join stream, and nobody answers pings during a step.
    return std::make_unique<GrpcBatchStream>(NewStub(address_, Keepalive::kNo), epoch, rank);
  }

 private:
  const std::string address_;
};

}  // namespace

std::unique_ptr<CoordinatorClient> Dial(const std::string& address) {
  return std::make_unique<GrpcCoordinatorClient>(address);
}

}  // namespace lockstep::worker
