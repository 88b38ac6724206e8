// A rank's view of its group in shared memory: its own segment, those of its peers, and how to wait
// for peers and wake them. ShmSetup fills one, ShmCollective works on it.
//
// Waiting. A wait that is not satisfied at once spins, then yields the processor, then sleeps on
// the futex in the rank's own segment, which everyone who has news for it rings if it sleeps.
// Spinning shrinks when it does not help and is left out when the group has more ranks than there
// are processors, since a spinning rank then keeps the rank that it waits for from running.
#ifndef LOCKSTEP_WORKER_COLLECTIVE_SHM_GROUP_H_
#define LOCKSTEP_WORKER_COLLECTIVE_SHM_GROUP_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "worker/collective/collective.h"
#include "worker/collective/failure_latch.h"
#include "worker/collective/shm_layout.h"
#include "worker/collective/shm_segment.h"

namespace lockstep::worker {

/// A set of ranks, bit r for rank r.
using RankSet = uint64_t;
constexpr RankSet SetOf(int rank) { return RankSet{1} << rank; }
constexpr RankSet SetOfAll(int size) { return size == 64 ? ~RankSet{0} : SetOf(size) - 1; }

/// One thread operates; Abort and wait_ns() may be called by others. The destructor tells peers
/// that this rank has left; their mappings of its segment stay valid.
class ShmGroup {
 public:
  ShmGroup(const GroupMember& member, ShmSegment own, size_t buffer_bytes);
  ~ShmGroup();
  ShmGroup(const ShmGroup&) = delete;
  ShmGroup& operator=(const ShmGroup&) = delete;

  const GroupMember& member() const { return member_; }
  size_t buffer_bytes() const { return buffer_bytes_; }
  ShmView view(int rank) const { return views_[rank]; }
  ShmView own() const { return views_[member_.rank]; }
  ShmSegment& segment(int rank) { return segments_[rank]; }
  RankSet peers() const { return SetOfAll(member_.size) & ~SetOf(member_.rank); }

  /// Takes over the mapping of a peer's segment.
  void AddPeer(int rank, ShmSegment segment);

  /// Blocks until ready() is true. Fails with the kept failure once there is one, with Unavailable,
  /// which is kept, when a rank of `needed` has left or died while ready() is false, and with
  /// DeadlineExceeded, which is not, after `deadline`. ready() is called by this thread only.
  absl::Status Wait(absl::FunctionRef<bool()> ready, RankSet needed,
                    absl::Time deadline = absl::InfiniteFuture()) {
    if (ready()) return failure_.raised() ? failure_.status() : absl::OkStatus();
    return WaitSlowly(ready, needed, deadline);
  }

  /// Wakes `rank` if it sleeps; call it after the store that it may be waiting for.
  void Wake(int rank) {
    ShmBell& bell = views_[rank].bell();
    if (bell.sleeping.load(std::memory_order_seq_cst) != 0) Ring(bell);
  }
  void WakePeers();

  /// Keeps `failure` as the reason why all later operations fail; returns the kept one.
  absl::Status Fail(absl::Status failure) { return failure_.Raise(std::move(failure)); }
  absl::Status status() const { return failure_.raised() ? failure_.status() : absl::OkStatus(); }
  void Abort(std::string_view reason);
  /// Aborts and tells the peers at once; from the operating thread, idempotent.
  void Close();
  int64_t wait_ns() const { return wait_ns_.load(std::memory_order_relaxed); }

 private:
  using Clock = std::chrono::steady_clock;

  static void Ring(ShmBell& bell);
  absl::Status WaitSlowly(absl::FunctionRef<bool()> ready, RankSet needed, absl::Time deadline);
  bool Spin(absl::FunctionRef<bool()> ready);
  absl::Status Sleep(absl::FunctionRef<bool()> ready, RankSet needed, absl::Time deadline);
  absl::Status CheckPeers(RankSet needed, bool check_alive);

  GroupMember member_;
  size_t buffer_bytes_;
  std::vector<ShmSegment> segments_;
  std::vector<ShmView> views_;
  FailureLatch failure_;
  std::chrono::nanoseconds max_spin_;
  std::chrono::nanoseconds spin_;
  std::atomic<int64_t> wait_ns_{0};
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_COLLECTIVE_SHM_GROUP_H_
