// Point-to-point messages of any size over the rings of a ShmGroup.
//
// Overview. A message is its length, 8 bytes, and its bytes. A Send that finds the ring full takes
// in what peers send meanwhile, so that ranks which all send before they receive do not wait for
// each other in a circle; a later Receive takes that first.
#ifndef LOCKSTEP_WORKER_COLLECTIVE_SHM_STREAM_H_
#define LOCKSTEP_WORKER_COLLECTIVE_SHM_STREAM_H_

#include <cstddef>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "worker/collective/byte_queue.h"
#include "worker/collective/shm_group.h"
#include "worker/collective/shm_ring.h"

namespace lockstep::worker {

/// Belongs to the thread that operates the group; `group` must outlive it. `peer` is another rank.
class ShmStream {
 public:
  explicit ShmStream(ShmGroup* group);

  /// Returns when all of `data` lies in the ring.
  absl::Status Send(int peer, std::span<const std::byte> data);
  /// InvalidArgument, kept by the group, if the peer sent a message of another size.
  absl::Status Receive(int peer, std::span<std::byte> data);

 private:
  ShmRingView Outgoing(int peer);
  ShmRingView Incoming(int peer);
  absl::Status Write(int peer, std::span<const std::byte> data);
  absl::Status Read(int peer, std::span<std::byte> data);
  void TakeInAll();

  ShmGroup* group_;
  std::vector<ByteQueue> early_;
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_COLLECTIVE_SHM_STREAM_H_
