// The two kinds of stream: what comes up is handed to the cluster, what goes down is queued.
#include "coordinator/cluster/cluster_service.h"

#include <grpcpp/impl/codegen/proto_utils.h>

#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "base/grpc_status.h"
#include "coordinator/cluster/links.h"
#include "coordinator/cluster/queued_stream.h"

namespace lockstep::coordinator {
namespace {

class JoinStream final : public QueuedStream<v1::JoinRequest, v1::JoinResponse>,
                         public ControlLink {
 public:
  JoinStream(grpc::CallbackServerContext* context, Cluster* cluster)
      : QueuedStream(context), cluster_(cluster) {}

  void Send(v1::JoinResponse message) override { Enqueue(std::move(message)); }
  void Close(const absl::Status& status) override { End(status); }

 private:
  void OnMessage(const v1::JoinRequest& message) override {
    absl::Status status = member_ ? cluster_->Handle(*member_, message) : Register(message);
    if (!status.ok()) End(status);
  }

  void OnEnd(const absl::Status& reason) override {
    if (member_) cluster_->Leave(*member_, reason);
  }

  absl::Status Register(const v1::JoinRequest& message) {
    if (!message.has_register_()) {
      return absl::InvalidArgumentError("a Join stream's first message must be register");
    }
    std::shared_ptr<ControlLink> link(shared_from_this(), this);
    absl::StatusOr<MemberId> member = cluster_->Register(message.register_(), std::move(link));
    if (member.ok()) member_ = *member;
    return member.status();
  }

  Cluster* const cluster_;
  // Only used by gRPC's calls, which come one at a time.
  std::optional<MemberId> member_;
};

class ExecuteStream final : public QueuedStream<grpc::ByteBuffer, grpc::ByteBuffer>,
                            public BatchLink {
 public:
  ExecuteStream(grpc::CallbackServerContext* context, Cluster* cluster)
      : QueuedStream(context), cluster_(cluster) {}

  void Send(grpc::ByteBuffer response) override { Enqueue(std::move(response)); }
  void Close(const absl::Status& status) override { End(status); }

 private:
  void OnMessage(const grpc::ByteBuffer& bytes) override {
    // Deserialize consumes its argument; copying a ByteBuffer shares the bytes.
    grpc::ByteBuffer copy = bytes;
    grpc::Status parsed =
        grpc::SerializationTraits<v1::ExecuteRequest>::Deserialize(&copy, &request_);
    absl::Status status = parsed.ok() ? Take() : FromGrpcStatus(parsed);
    if (!status.ok()) End(status);
  }

  void OnEnd(const absl::Status& reason) override {
    if (group_ == nullptr) return;
    cluster_->StreamEnded(group_->limits().epoch, rank_, reason);
    group_.reset();
  }

  absl::Status Take() {
    if (group_ == nullptr) return Open();
    if (!request_.has_result()) {
      return absl::InvalidArgumentError("after hello an Execute stream takes results only");
    }
    group_->TakeResult(rank_, std::move(*request_.mutable_result()));
    return absl::OkStatus();
  }

  absl::Status Open() {
    if (!request_.has_hello()) {
      return absl::InvalidArgumentError("an Execute stream's first message must be hello");
    }
    rank_ = request_.hello().rank();
    std::shared_ptr<BatchLink> link(shared_from_this(), this);
    absl::StatusOr<std::shared_ptr<StreamedRankGroup>> group =
        cluster_->OpenStream(request_.hello(), std::move(link));
    if (group.ok()) group_ = *std::move(group);
    return group.status();
  }

  Cluster* const cluster_;
  // Only used by gRPC's calls, which come one at a time.
  v1::ExecuteRequest request_;
  uint32_t rank_ = 0;
  std::shared_ptr<StreamedRankGroup> group_;
};

}  // namespace

grpc::ServerBidiReactor<v1::JoinRequest, v1::JoinResponse>* ClusterService::Join(
    grpc::CallbackServerContext* context) {
  return std::make_shared<JoinStream>(context, cluster_)->Begin();
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* ClusterService::Execute(
    grpc::CallbackServerContext* context) {
  return std::make_shared<ExecuteStream>(context, cluster_)->Begin();
}

}  // namespace lockstep::coordinator
