// See shm_collective.h.
#include "worker/collective/shm_collective.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace lockstep::worker {
namespace {

std::string Describe(uint64_t packed) {
  constexpr const char* kNames[] = {"AllReduceSum", "ReduceScatterSum", "AllGather", "Broadcast"};
  return absl::StrCat(kNames[packed & 3], " of ", packed >> 2, " bytes");
}

}  // namespace

ShmCollective::ShmCollective(std::shared_ptr<ShmGroup> group, int64_t addend_capacity)
    : group_(std::move(group)),
      stream_(group_.get()),
      addend_capacity_(addend_capacity),
      addends_(static_cast<size_t>(group_->member().size)) {}

void ShmCollective::Post() {
  group_->own().post().posted.store(++posted_, std::memory_order_seq_cst);
  group_->WakePeers();
}

absl::Status ShmCollective::WaitForPosts() {
  int rank = 0;
  auto all_posted = [&] {
    for (; rank < size(); ++rank) {
      uint32_t theirs = group_->view(rank).post().posted.load(std::memory_order_seq_cst);
      // The difference is right even when the count has wrapped around.
      if (static_cast<int32_t>(theirs - posted_) < 0) return false;
    }
    return true;
  };
  return group_->Wait(all_posted, group_->peers());
}

absl::Status ShmCollective::Meet(ShmOperation operation, size_t bytes) {
  group_->own().post().operations[buffer_].store(PackOperation(operation, bytes),
                                                 std::memory_order_relaxed);
  Post();
  LOCKSTEP_RETURN_IF_ERROR(WaitForPosts());
  return CheckOperations();
}

absl::Status ShmCollective::CheckOperations() {
  uint64_t mine = group_->own().post().operations[buffer_].load(std::memory_order_relaxed);
  for (int peer = 0; peer < size(); ++peer) {
    uint64_t theirs = group_->view(peer).post().operations[buffer_].load(std::memory_order_relaxed);
    if (theirs == mine) continue;
    return group_->Fail(absl::InvalidArgumentError(
        absl::StrCat("in group ", group_->member().group, " rank ", peer, " does ",
                     Describe(theirs), " where rank ", rank(), " does ", Describe(mine))));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::span<float>> ShmCollective::Addend(int64_t count) {
  LOCKSTEP_RETURN_IF_ERROR(group_->status());
  if (count < 0 || count > addend_capacity_) {
    return group_->Fail(absl::ResourceExhaustedError(
        absl::StrCat("an addend of ", count, " floats asked for; the group was made for 0 to ",
                     addend_capacity_)));
  }
  pending_count_ = count;
  return std::span<float>(Floats(rank()), static_cast<size_t>(count));
}

absl::Status ShmCollective::CheckNothingPending() {
  LOCKSTEP_RETURN_IF_ERROR(group_->status());
  if (!pending_count_) return absl::OkStatus();
  return group_->Fail(absl::InvalidArgumentError(absl::StrCat(
      "an addend of ", *pending_count_, " floats waits for its sum; ask for that first")));
}

absl::Status ShmCollective::TakeAddend(size_t found, int64_t expected) {
  LOCKSTEP_RETURN_IF_ERROR(group_->status());
  if (!pending_count_ || static_cast<int64_t>(found) != expected) {
    return group_->Fail(absl::InvalidArgumentError(
        pending_count_ ? absl::StrCat("the result has ", found, " floats; expected ", expected)
                       : "a sum was asked for, but no Addend came before"));
  }
  pending_count_.reset();
  return absl::OkStatus();
}

void ShmCollective::SumSlice(Slice slice, float* out) {
  for (int peer = 0; peer < size(); ++peer) addends_[peer] = Floats(peer) + slice.begin;
  SumInOrder(addends_, slice.count(), out);
}

absl::Status ShmCollective::AllReduceSum(std::span<float> out) {
  int64_t count = static_cast<int64_t>(out.size());
  LOCKSTEP_RETURN_IF_ERROR(TakeAddend(out.size(), pending_count_.value_or(0)));
  LOCKSTEP_RETURN_IF_ERROR(Meet(ShmOperation::kAllReduceSum, out.size_bytes()));
  if (out.size_bytes() * addends_.size() <= kFlatBytes) {
    SumSlice({0, count}, out.data());
  } else {
    LOCKSTEP_RETURN_IF_ERROR(ReduceInTwoPhases(out));
  }
  EndOperation();
  return absl::OkStatus();
}

absl::Status ShmCollective::ReduceInTwoPhases(std::span<float> out) {
  int64_t count = static_cast<int64_t>(out.size());
  Slice mine = SliceOf(count, rank(), size());
  // In place: nobody else reads this rank's slice of this rank's addend before the second post.
  SumSlice(mine, Floats(rank()) + mine.begin);
  Post();
  LOCKSTEP_RETURN_IF_ERROR(WaitForPosts());
  for (int peer = 0; peer < size(); ++peer) {
    Slice slice = SliceOf(count, peer, size());
    std::memcpy(out.data() + slice.begin, Floats(peer) + slice.begin,
                static_cast<size_t>(slice.count()) * sizeof(float));
  }
  return absl::OkStatus();
}

absl::Status ShmCollective::ReduceScatterSum(std::span<float> out_slice) {
  int64_t count = pending_count_.value_or(0);
  Slice mine = SliceOf(count, rank(), size());
  LOCKSTEP_RETURN_IF_ERROR(TakeAddend(out_slice.size(), mine.count()));
  LOCKSTEP_RETURN_IF_ERROR(
      Meet(ShmOperation::kReduceScatterSum, static_cast<size_t>(count) * sizeof(float)));
  SumSlice(mine, out_slice.data());
  EndOperation();
  return absl::OkStatus();
}

absl::Status ShmCollective::AllGather(std::span<const std::byte> mine, std::span<std::byte> all) {
  LOCKSTEP_RETURN_IF_ERROR(CheckNothingPending());
  if (all.size() != mine.size() * static_cast<size_t>(size())) {
    return group_->Fail(absl::InvalidArgumentError(
        absl::StrCat("all has ", all.size(), " bytes; expected ", size(), " times ", mine.size())));
  }
  for (size_t offset = 0; offset < mine.size(); offset += group_->buffer_bytes()) {
    LOCKSTEP_RETURN_IF_ERROR(GatherPiece(mine, offset, all));
  }
  return absl::OkStatus();
}

absl::Status ShmCollective::GatherPiece(std::span<const std::byte> mine, size_t offset,
                                        std::span<std::byte> all) {
  size_t count = std::min(group_->buffer_bytes(), mine.size() - offset);
  std::memcpy(Buffer(rank()), mine.data() + offset, count);
  LOCKSTEP_RETURN_IF_ERROR(Meet(ShmOperation::kAllGather, count));
  for (int peer = 0; peer < size(); ++peer) {
    std::memcpy(all.data() + static_cast<size_t>(peer) * mine.size() + offset, Buffer(peer), count);
  }
  EndOperation();
  return absl::OkStatus();
}

absl::Status ShmCollective::Broadcast(std::span<std::byte> data, int root) {
  LOCKSTEP_RETURN_IF_ERROR(CheckNothingPending());
  if (root < 0 || root >= size()) {
    return group_->Fail(
        absl::InvalidArgumentError(absl::StrCat("rank ", root, " named in a group of ", size())));
  }
  while (!data.empty()) {
    size_t count = std::min(group_->buffer_bytes(), data.size());
    LOCKSTEP_RETURN_IF_ERROR(BroadcastPiece(data.first(count), root));
    data = data.subspan(count);
  }
  return absl::OkStatus();
}

absl::Status ShmCollective::BroadcastPiece(std::span<std::byte> piece, int root) {
  if (rank() == root) std::memcpy(Buffer(root), piece.data(), piece.size());
  LOCKSTEP_RETURN_IF_ERROR(Meet(ShmOperation::kBroadcast, piece.size()));
  if (rank() != root) std::memcpy(piece.data(), Buffer(root), piece.size());
  EndOperation();
  return absl::OkStatus();
}

absl::Status ShmCollective::CheckPeer(int peer) {
  if (peer >= 0 && peer < size() && peer != rank()) return absl::OkStatus();
  return group_->Fail(absl::InvalidArgumentError(
      absl::StrCat("rank ", peer, " named as a peer of rank ", rank(), " in a group of ", size())));
}

absl::Status ShmCollective::Send(int peer, std::span<const std::byte> data) {
  LOCKSTEP_RETURN_IF_ERROR(CheckPeer(peer));
  return stream_.Send(peer, data);
}

absl::Status ShmCollective::Receive(int peer, std::span<std::byte> data) {
  LOCKSTEP_RETURN_IF_ERROR(CheckPeer(peer));
  return stream_.Receive(peer, data);
}

}  // namespace lockstep::worker
