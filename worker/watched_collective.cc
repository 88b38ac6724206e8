// The forwarding of Watched.
#include "worker/watched_collective.h"

#include <utility>

namespace lockstep::worker {
namespace {

class WatchedCollective final : public Collective {
 public:
  WatchedCollective(std::unique_ptr<Collective> inner, Progress* progress)
      : inner_(std::move(inner)), progress_(*progress) {}

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  std::string_view kind() const override { return inner_->kind(); }
  absl::StatusOr<std::span<float>> Addend(int64_t count) override {
    PhaseScope waiting(progress_, Phase::kWaitingForPeer);
    return inner_->Addend(count);
  }
  absl::Status AllReduceSum(std::span<float> out) override {
    PhaseScope waiting(progress_, Phase::kWaitingForPeer);
    return inner_->AllReduceSum(out);
  }
  absl::Status ReduceScatterSum(std::span<float> out_slice) override {
    PhaseScope waiting(progress_, Phase::kWaitingForPeer);
    return inner_->ReduceScatterSum(out_slice);
  }
  absl::Status AllGather(std::span<const std::byte> mine, std::span<std::byte> all) override {
    PhaseScope waiting(progress_, Phase::kWaitingForPeer);
    return inner_->AllGather(mine, all);
  }
  absl::Status Broadcast(std::span<std::byte> data, int root) override {
    PhaseScope waiting(progress_, Phase::kWaitingForPeer);
    return inner_->Broadcast(data, root);
  }
  absl::Status Send(int peer, std::span<const std::byte> data) override {
    PhaseScope waiting(progress_, Phase::kWaitingForPeer);
    return inner_->Send(peer, data);
  }
  absl::Status Receive(int peer, std::span<std::byte> data) override {
    PhaseScope waiting(progress_, Phase::kWaitingForPeer);
    return inner_->Receive(peer, data);
  }
  void Abort(std::string_view reason) override { inner_->Abort(reason); }
  int64_t wait_ns() const override { return inner_->wait_ns(); }

 private:
  const std::unique_ptr<Collective> inner_;
  Progress& progress_;
};

}  // namespace

std::unique_ptr<Collective> Watched(std::unique_ptr<Collective> inner, Progress* progress) {
  return std::make_unique<WatchedCollective>(std::move(inner), progress);
}

}  // namespace lockstep::worker
