// See shm_stream.h.
#include "worker/collective/shm_stream.h"

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace lockstep::worker {

ShmStream::ShmStream(ShmGroup* group)
    : group_(group), early_(static_cast<size_t>(group->member().size)) {}

ShmRingView ShmStream::Outgoing(int peer) {
  return {group_->own().ring(peer), group_->own().ring_data(peer)};
}

ShmRingView ShmStream::Incoming(int peer) {
  int self = group_->member().rank;
  return {group_->view(peer).ring(self), group_->view(peer).ring_data(self)};
}

void ShmStream::TakeInAll() {
  for (int peer = 0; peer < group_->member().size; ++peer) {
    if (peer == group_->member().rank) continue;
    ShmRingView ring = Incoming(peer);
    while (size_t count = ring.Readable()) {
      std::span<std::byte> room = early_[peer].Extend(count);
      while (!room.empty()) room = room.subspan(ring.Read(room));
      group_->Wake(peer);
    }
  }
}

absl::Status ShmStream::Write(int peer, std::span<const std::byte> data) {
  ShmRingView ring = Outgoing(peer);
  while (!data.empty()) {
    if (ring.Writable() == 0) {
      auto has_room = [&] {
        if (ring.Writable() > 0) return true;
        TakeInAll();
        return ring.Writable() > 0;
      };
      LOCKSTEP_RETURN_IF_ERROR(group_->Wait(has_room, SetOf(peer)));
    }
    data = data.subspan(ring.Write(data));
    group_->Wake(peer);
  }
  return absl::OkStatus();
}

absl::Status ShmStream::Read(int peer, std::span<std::byte> data) {
  data = data.subspan(early_[peer].Take(data));
  ShmRingView ring = Incoming(peer);
  while (!data.empty()) {
    LOCKSTEP_RETURN_IF_ERROR(group_->Wait([&] { return ring.Readable() > 0; }, SetOf(peer)));
    data = data.subspan(ring.Read(data));
    group_->Wake(peer);
  }
  return absl::OkStatus();
}

absl::Status ShmStream::Send(int peer, std::span<const std::byte> data) {
  LOCKSTEP_RETURN_IF_ERROR(group_->status());
  // Both ends run on one machine, so that the length needs no byte order.
  uint64_t length = data.size();
  LOCKSTEP_RETURN_IF_ERROR(Write(peer, std::as_bytes(std::span(&length, 1))));
  return Write(peer, data);
}

absl::Status ShmStream::Receive(int peer, std::span<std::byte> data) {
  LOCKSTEP_RETURN_IF_ERROR(group_->status());
  uint64_t length = 0;
  LOCKSTEP_RETURN_IF_ERROR(Read(peer, std::as_writable_bytes(std::span(&length, 1))));
  if (length != data.size()) {
    return group_->Fail(absl::InvalidArgumentError(
        absl::StrCat("rank ", peer, " of group ", group_->member().group, " sent ", length,
                     " bytes where rank ", group_->member().rank, " receives ", data.size())));
  }
  return Read(peer, data);
}

}  // namespace lockstep::worker
