// What lies where in the shared-memory segment of one rank.
//
// Every rank owns one segment and maps those of all its peers. From the segment's start:
//   ShmHeader        written by the owner before the segment gets a name, read-only from then on,
//                    but for `mapped_by`
//   ShmPost          written by the owner only: how far it is, read by all
//   ShmBell          how to wake the owner; written by all
//   ShmRing[size]    one per peer: the owner writes `head`, that peer writes `tail`
//   ring bytes       kRingBytes per peer
//   two addend buffers of `buffer_bytes` each, used in turn, written by the owner only
//
// Memory ordering. `posted`, `head` and `tail` are stored after the data that they announce. Those
// stores, the load of `sleeping` that follows, the store of `sleeping` and the load that follows it
// are sequentially consistent: either the sleeper sees the news or the writer sees the sleeper.
//
// Why two buffers suffice. A rank writes into the buffer of operation k+2 after it finished k+1,
// for which it saw a post of every peer; each peer posts for k+1 only after it finished reading k,
// whose buffer is the one of k+2.
#ifndef LOCKSTEP_WORKER_COLLECTIVE_SHM_LAYOUT_H_
#define LOCKSTEP_WORKER_COLLECTIVE_SHM_LAYOUT_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace lockstep::worker {

/// Two cache lines, since processors fetch lines in pairs.
inline constexpr size_t kShmAlignment = 128;
inline constexpr size_t kPageBytes = 4096;
inline constexpr uint64_t kShmMagic = 0x314d48535045544cull;
/// Small enough for 8 ranks in a container's default of 64 MiB, large enough to hide wake-ups.
inline constexpr size_t kRingBytes = 128 * 1024;

struct alignas(kShmAlignment) ShmHeader {
  uint64_t magic;
  uint64_t epoch;
  uint64_t rank;
  uint64_t size;
  uint64_t buffer_bytes;
  /// Bit r is set once rank r has mapped this segment.
  std::atomic<uint64_t> mapped_by;
};

enum class ShmOperation : uint64_t { kAllReduceSum, kReduceScatterSum, kAllGather, kBroadcast };

/// Kind and size of an operation in one word.
constexpr uint64_t PackOperation(ShmOperation operation, size_t bytes) {
  return static_cast<uint64_t>(bytes) << 2 | static_cast<uint64_t>(operation);
}

struct alignas(kShmAlignment) ShmPost {
  /// Counts the owner's posts; wraps around.
  std::atomic<uint32_t> posted;
  /// What the owner does with buffer 0 or 1, so that ranks that disagree are noticed.
  std::atomic<uint64_t> operations[2];
};

struct alignas(kShmAlignment) ShmBell {
  /// The futex that the owner sleeps on; grows with every ring.
  std::atomic<uint32_t> rings;
  /// Whether the owner sleeps or is about to, so that nobody makes a system call for nothing.
  std::atomic<uint32_t> sleeping;
  /// Whether the owner has closed or aborted its communicator.
  std::atomic<uint32_t> departed;
};

/// Bytes written and read since the start, never reduced modulo the ring's size.
struct ShmRing {
  alignas(kShmAlignment) std::atomic<uint64_t> head;
  alignas(kShmAlignment) std::atomic<uint64_t> tail;
};

static_assert(std::atomic<uint32_t>::is_always_lock_free);
static_assert(std::atomic<uint64_t>::is_always_lock_free);

/// Finds the parts of a mapped segment. A view: owns nothing, copies freely.
class ShmView {
 public:
  ShmView() = default;
  ShmView(std::byte* base, int size, size_t buffer_bytes)
      : base_(base), size_(static_cast<size_t>(size)), buffer_bytes_(buffer_bytes) {}

  static size_t SegmentBytes(int size, size_t buffer_bytes) {
    ShmView view(nullptr, size, buffer_bytes);
    return view.BuffersOffset() + 2 * buffer_bytes;
  }

  ShmHeader& header() const { return At<ShmHeader>(0); }
  ShmPost& post() const { return At<ShmPost>(sizeof(ShmHeader)); }
  ShmBell& bell() const { return At<ShmBell>(sizeof(ShmHeader) + sizeof(ShmPost)); }
  ShmRing& ring(int peer) const { return At<ShmRing>(kRingsOffset + peer * sizeof(ShmRing)); }
  std::byte* ring_data(int peer) const { return base_ + RingDataOffset() + peer * kRingBytes; }
  std::byte* buffer(int index) const { return base_ + BuffersOffset() + index * buffer_bytes_; }

 private:
  static constexpr size_t kRingsOffset = sizeof(ShmHeader) + sizeof(ShmPost) + sizeof(ShmBell);

  static size_t RoundUpToPage(size_t bytes) {
    return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  }
  size_t RingDataOffset() const { return RoundUpToPage(kRingsOffset + size_ * sizeof(ShmRing)); }
  size_t BuffersOffset() const { return RingDataOffset() + size_ * kRingBytes; }
  template <class T>
  T& At(size_t offset) const {
    return *reinterpret_cast<T*>(base_ + offset);
  }

  std::byte* base_ = nullptr;
  size_t size_ = 0;
  size_t buffer_bytes_ = 0;
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_COLLECTIVE_SHM_LAYOUT_H_
