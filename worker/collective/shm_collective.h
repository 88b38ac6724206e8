// The ranks of one node, over shared memory.
//
// Overview. A rank writes its addend straight into its own segment and posts; peers read it there.
// Up to kFlatBytes of all addends every rank reads all addends and adds them; above, rank r adds
// slice r of all into its own buffer, posts again, and everyone collects the slices. Both add in
// rank order, so that all ranks have the same bits, whichever way was taken.
//
// Lifetime. Shares its ShmGroup, and with it the mappings of all segments, with the setup that made
// it; a rank that leaves takes nothing from its peers but its company. Memory ordering:
// shm_layout.h.
#ifndef LOCKSTEP_WORKER_COLLECTIVE_SHM_COLLECTIVE_H_
#define LOCKSTEP_WORKER_COLLECTIVE_SHM_COLLECTIVE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/collective/collective.h"
#include "worker/collective/shm_group.h"
#include "worker/collective/shm_stream.h"
#include "worker/collective/sum.h"

namespace lockstep::worker {

/// See Collective. An addend may have up to `addend_capacity` floats (ResourceExhausted above);
/// AllGather and Broadcast take any size, in pieces of a buffer.
class ShmCollective final : public Collective {
 public:
  /// Up to this many bytes of all addends together every rank adds everything itself: measured with
  /// 2, 4 and 8 ranks, the ways meet at addends of 64, 32 and 16 KiB.
  static constexpr size_t kFlatBytes = 128 * 1024;

  /// `group` holds all peers.
  ShmCollective(std::shared_ptr<ShmGroup> group, int64_t addend_capacity);
  ~ShmCollective() override { group_->Close(); }

  int rank() const override { return group_->member().rank; }
  int size() const override { return group_->member().size; }
  std::string_view kind() const override { return "shm"; }
  absl::StatusOr<std::span<float>> Addend(int64_t count) override;
  absl::Status AllReduceSum(std::span<float> out) override;
  absl::Status ReduceScatterSum(std::span<float> out_slice) override;
  absl::Status AllGather(std::span<const std::byte> mine, std::span<std::byte> all) override;
  absl::Status Broadcast(std::span<std::byte> data, int root) override;
  absl::Status Send(int peer, std::span<const std::byte> data) override;
  absl::Status Receive(int peer, std::span<std::byte> data) override;
  void Abort(std::string_view reason) override { group_->Abort(reason); }
  int64_t wait_ns() const override { return group_->wait_ns(); }

 private:
  std::byte* Buffer(int rank) const { return group_->view(rank).buffer(buffer_); }
  float* Floats(int rank) const { return reinterpret_cast<float*>(Buffer(rank)); }

  void Post();
  absl::Status WaitForPosts();
  absl::Status Meet(ShmOperation operation, size_t bytes);
  absl::Status CheckOperations();
  void EndOperation() { buffer_ ^= 1; }
  absl::Status CheckPeer(int peer);
  absl::Status CheckNothingPending();
  absl::Status TakeAddend(size_t found, int64_t expected);
  void SumSlice(Slice slice, float* out);
  absl::Status ReduceInTwoPhases(std::span<float> out);
  absl::Status GatherPiece(std::span<const std::byte> mine, size_t offset,
                           std::span<std::byte> all);
  absl::Status BroadcastPiece(std::span<std::byte> piece, int root);

  /// Shared with the setup, whose Abort reaches the communicator too.
  std::shared_ptr<ShmGroup> group_;
  ShmStream stream_;
  int64_t addend_capacity_;
  /// Of the Addend whose sum has not been asked for yet.
  std::optional<int64_t> pending_count_;
  /// Which of the two buffers the next operation uses.
  int buffer_ = 0;
  uint32_t posted_ = 0;
  std::vector<const float*> addends_;  // one of each rank; kept only to spare an allocation
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_COLLECTIVE_SHM_COLLECTIVE_H_
