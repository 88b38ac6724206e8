// Messages between all pairs of ranks over non-blocking sockets, sent and received at the same
// time.
//
// Overview. A message is a frame: 1 byte channel, 7 bytes zero, 8 bytes length (little-endian),
// then the bytes. PostSend and PostReceive only queue; Run* moves bytes in both directions, with
// all peers, until what it waits for is done. What arrives before its receive is posted is kept. So
// two ranks that send much to each other never wait for each other, and collectives and
// point-to-point messages between the same ranks do not get in each other's way.
//
// Lifetime. Posted memory must stay valid until its completion or until the mesh has failed; after
// a failure the mesh touches it no more. Threads: one operates; Abort and wait_ns() from any.
#ifndef LOCKSTEP_WORKER_COLLECTIVE_TCP_MESH_H_
#define LOCKSTEP_WORKER_COLLECTIVE_TCP_MESH_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "worker/collective/collective.h"
#include "worker/collective/failure_latch.h"
#include "worker/collective/tcp_link.h"
#include "worker/collective/unique_fd.h"

namespace lockstep::worker {

class TcpMesh {
 public:
  /// sockets[r] is connected to rank r; none for the own rank. `wake` is an eventfd.
  TcpMesh(const GroupMember& member, std::vector<UniqueFd> sockets, UniqueFd wake);

  const GroupMember& member() const { return member_; }

  void PostSend(int peer, TcpChannel channel, std::span<const std::byte> data);
  /// Receives complete in the order posted, per peer and channel. Returns how many the peer has to
  /// complete on that channel until this one is done, for RunUntilReceived.
  uint64_t PostReceive(int peer, TcpChannel channel, std::span<std::byte> data);

  /// Blocks until every posted send is in the kernel and every posted receive is complete. Aborted
  /// after Abort, Unavailable if a peer with something posted is gone, InvalidArgument if a message
  /// has not the size of its receive; kept for good.
  absl::Status RunUntilDone();
  /// As RunUntilDone, but until receive number `ticket` of each peer is complete.
  absl::Status RunUntilReceived(TcpChannel channel, std::span<const uint64_t> tickets);

  absl::Status Fail(absl::Status failure) { return failure_.Raise(std::move(failure)); }
  absl::Status status() const { return failure_.raised() ? failure_.status() : absl::OkStatus(); }
  void Abort(std::string_view reason);
  int64_t wait_ns() const { return wait_ns_.load(std::memory_order_relaxed); }

 private:
  absl::Status RunUntil(absl::FunctionRef<bool()> done);
  /// Moves what can be moved without waiting; whether anything was.
  bool Progress();
  absl::Status CheckLinks();
  void Poll();

  GroupMember member_;
  std::vector<TcpLink> links_;
  UniqueFd wake_;
  FailureLatch failure_;
  int64_t spin_ns_;
  std::atomic<int64_t> wait_ns_{0};
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_COLLECTIVE_TCP_MESH_H_
