// The streams over pipes.
#include "worker/testing/fake_coordinator.h"

namespace lockstep::worker {
namespace {

class FakeJoinStream final : public JoinStream {
 public:
  explicit FakeJoinStream(std::shared_ptr<FakeCoordinator::JoinWire> wire)
      : wire_(std::move(wire)) {}
  bool Send(const v1::JoinRequest& message) override {
    if (wire_->up.closed()) return false;
    wire_->up.Put(message);
    return true;
  }
  std::optional<v1::JoinResponse> Receive() override { return wire_->down.Take(); }
  absl::Status Finish() override { return absl::UnavailableError("the wire was closed"); }
  void Cancel() override { wire_->Close(); }

 private:
  const std::shared_ptr<FakeCoordinator::JoinWire> wire_;
};

class FakeBatchStream final : public BatchStream {
 public:
  explicit FakeBatchStream(std::shared_ptr<FakeCoordinator::BatchWire> wire)
      : wire_(std::move(wire)) {}
  ~FakeBatchStream() override { wire_->Close(); }
  absl::StatusOr<std::optional<v1::StepBatch>> Next() override { return wire_->down.Take(); }
  void Give(v1::StepResult result) override { wire_->up.Put(std::move(result)); }
  void Cancel() override { wire_->Close(); }

 private:
  const std::shared_ptr<FakeCoordinator::BatchWire> wire_;
};

}  // namespace

class FakeCoordinator::FakeClient final : public CoordinatorClient {
 public:
  explicit FakeClient(FakeCoordinator* coordinator) : coordinator_(*coordinator) {}
  std::unique_ptr<JoinStream> Join() override {
    auto wire = std::make_shared<JoinWire>();
    coordinator_.joins_.Put(wire);
    return std::make_unique<FakeJoinStream>(wire);
  }
  std::unique_ptr<BatchStream> Execute(uint64_t epoch, uint32_t rank) override {
    auto wire = std::make_shared<BatchWire>();
    coordinator_.executes_.Put({epoch, rank, wire});
    return std::make_unique<FakeBatchStream>(wire);
  }

 private:
  FakeCoordinator& coordinator_;
};

std::unique_ptr<CoordinatorClient> FakeCoordinator::Client() {
  return std::make_unique<FakeClient>(this);
}

std::shared_ptr<FakeCoordinator::JoinWire> FakeCoordinator::NextJoin() {
  return joins_.Take().value_or(nullptr);
}

v1::JoinRequest NextRequest(FakeCoordinator::JoinWire& wire) {
  while (std::optional<v1::JoinRequest> message = wire.up.Take()) {
    if (!message->has_heartbeat() && !message->has_load_progress()) return *message;
  }
  return {};
}

}  // namespace lockstep::worker
