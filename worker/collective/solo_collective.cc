// The group of one: every operation is a copy.
#include <algorithm>
#include <memory>
#include <optional>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "worker/collective/aligned_floats.h"
#include "worker/collective/collective.h"
#include "worker/collective/failure_latch.h"

namespace lockstep::worker {
namespace {

class SoloCollective final : public Collective {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::string_view kind() const override { return "solo"; }

  absl::StatusOr<std::span<float>> Addend(int64_t count) override {
    LOCKSTEP_RETURN_IF_ERROR(failure_.status());
    if (count < 0) {
      return failure_.Raise(absl::InvalidArgumentError(
          absl::StrCat("an addend of ", count, " floats asked for; legal are 0 and above")));
    }
    pending_count_ = static_cast<size_t>(count);
    return addend_.Get(*pending_count_);
  }

  absl::Status AllReduceSum(std::span<float> out) override {
    LOCKSTEP_RETURN_IF_ERROR(failure_.status());
    if (!pending_count_) {
      return failure_.Raise(absl::InvalidArgumentError(
          absl::StrCat("out has ", out.size(), " floats, but no Addend came before")));
    }
    LOCKSTEP_RETURN_IF_ERROR(CheckSize("out", out.size(), *pending_count_));
    std::ranges::copy(addend_.Get(*pending_count_), out.begin());
    pending_count_.reset();
    return absl::OkStatus();
  }

  absl::Status ReduceScatterSum(std::span<float> out_slice) override {
    return AllReduceSum(out_slice);
  }

  absl::Status AllGather(std::span<const std::byte> mine, std::span<std::byte> all) override {
    LOCKSTEP_RETURN_IF_ERROR(CheckNothingPending());
    LOCKSTEP_RETURN_IF_ERROR(CheckSize("all", all.size(), mine.size()));
    if (all.data() != mine.data()) std::ranges::copy(mine, all.begin());
    return absl::OkStatus();
  }

  absl::Status Broadcast(std::span<std::byte> data, int root) override {
    LOCKSTEP_RETURN_IF_ERROR(CheckNothingPending());
    if (root != 0) return NoSuchPeer(root);
    return absl::OkStatus();
  }

  absl::Status Send(int peer, std::span<const std::byte> data) override { return NoSuchPeer(peer); }
  absl::Status Receive(int peer, std::span<std::byte> data) override { return NoSuchPeer(peer); }

  void Abort(std::string_view reason) override { failure_.RaiseAborted(reason); }
  int64_t wait_ns() const override { return 0; }

 private:
  absl::Status CheckNothingPending() {
    LOCKSTEP_RETURN_IF_ERROR(failure_.status());
    if (!pending_count_) return absl::OkStatus();
    return failure_.Raise(absl::InvalidArgumentError(absl::StrCat(
        "an addend of ", *pending_count_, " floats waits for its sum; ask for that first")));
  }
  absl::Status CheckSize(const char* what, size_t found, size_t expected) {
    if (found == expected) return absl::OkStatus();
    return failure_.Raise(absl::InvalidArgumentError(
        absl::StrCat(what, " has ", found, " elements; expected ", expected)));
  }
  absl::Status NoSuchPeer(int peer) {
    LOCKSTEP_RETURN_IF_ERROR(failure_.status());
    return failure_.Raise(absl::InvalidArgumentError(
        absl::StrCat("rank ", peer, " named in a group of one, which has no peers")));
  }

  FailureLatch failure_;
  AlignedFloats addend_;
  /// Of the Addend whose sum has not been asked for yet.
  std::optional<size_t> pending_count_;
};

}  // namespace

std::unique_ptr<Collective> MakeSoloCollective() { return std::make_unique<SoloCollective>(); }

}  // namespace lockstep::worker
