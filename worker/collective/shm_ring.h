// One direction of a byte stream between two ranks, in the sender's segment. Neither side blocks or
// wakes the other: that is ShmGroup's.
#ifndef LOCKSTEP_WORKER_COLLECTIVE_SHM_RING_H_
#define LOCKSTEP_WORKER_COLLECTIVE_SHM_RING_H_

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>

#include "worker/collective/shm_layout.h"

namespace lockstep::worker {

/// A view of a ring; one thread of one process writes, one thread of another reads. head and tail
/// are stored in sequential consistency, as the sleeping protocol of shm_layout.h wants.
class ShmRingView {
 public:
  ShmRingView(ShmRing& ring, std::byte* data) : ring_(ring), data_(data) {}

  size_t Readable() const {
    return ring_.head.load(std::memory_order_seq_cst) - ring_.tail.load(std::memory_order_relaxed);
  }
  size_t Writable() const {
    return kRingBytes - (ring_.head.load(std::memory_order_relaxed) -
                         ring_.tail.load(std::memory_order_seq_cst));
  }

  /// Writes as much of `bytes` as has room, at most a piece that the reader may start on while the
  /// next is written; returns how much.
  size_t Write(std::span<const std::byte> bytes) {
    uint64_t head = ring_.head.load(std::memory_order_relaxed);
    size_t count = std::min({bytes.size(), Writable(), kPieceBytes});
    size_t start = head % kRingBytes;
    size_t first = std::min(count, kRingBytes - start);
    std::memcpy(data_ + start, bytes.data(), first);
    std::memcpy(data_, bytes.data() + first, count - first);
    ring_.head.store(head + count, std::memory_order_seq_cst);
    return count;
  }

  /// Reads up to out.size() bytes that are there; returns how many.
  size_t Read(std::span<std::byte> out) {
    uint64_t tail = ring_.tail.load(std::memory_order_relaxed);
    size_t count = std::min({out.size(), Readable(), kPieceBytes});
    size_t start = tail % kRingBytes;
    size_t first = std::min(count, kRingBytes - start);
    std::memcpy(out.data(), data_ + start, first);
    std::memcpy(out.data() + first, data_, count - first);
    ring_.tail.store(tail + count, std::memory_order_seq_cst);
    return count;
  }

 private:
  static constexpr size_t kPieceBytes = kRingBytes / 4;

  ShmRing& ring_;
  std::byte* data_;
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_COLLECTIVE_SHM_RING_H_
