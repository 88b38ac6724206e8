// See shm_group.h.
#include "worker/collective/shm_group.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <climits>
#include <ctime>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/yielding.h"

namespace lockstep::worker {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr nanoseconds kMaxSpin = microseconds(5);
constexpr nanoseconds kMinSpin = nanoseconds(500);
/// How often a sleeper looks whether the peers that it waits for are alive.
constexpr nanoseconds kLivenessPeriod = milliseconds(20);

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Sleeps until the word changes from `seen`, somebody wakes it, or `timeout` passes.
void FutexWait(std::atomic<uint32_t>& word, uint32_t seen, nanoseconds timeout) {
  struct timespec time = {.tv_sec = timeout.count() / 1'000'000'000,
                          .tv_nsec = timeout.count() % 1'000'000'000};
  syscall(SYS_futex, &word, FUTEX_WAIT, seen, &time, nullptr, 0);
}

void FutexWakeAll(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace

ShmGroup::ShmGroup(const GroupMember& member, ShmSegment own, size_t buffer_bytes)
    : member_(member),
      buffer_bytes_(buffer_bytes),
      segments_(static_cast<size_t>(member.size)),
      views_(static_cast<size_t>(member.size)),
      max_spin_(member.size <= sysconf(_SC_NPROCESSORS_ONLN) ? kMaxSpin : nanoseconds(0)),
      spin_(max_spin_) {
  AddPeer(member.rank, std::move(own));
}

ShmGroup::~ShmGroup() { Close(); }

void ShmGroup::Close() {
  Abort("the communicator was closed");
  for (int rank = 0; rank < member_.size; ++rank) {
    if (segments_[rank].data() != nullptr) Ring(views_[rank].bell());
  }
}

void ShmGroup::AddPeer(int rank, ShmSegment segment) {
  segments_[rank] = std::move(segment);
  views_[rank] = ShmView(segments_[rank].data(), member_.size, buffer_bytes_);
}

void ShmGroup::Ring(ShmBell& bell) {
  bell.rings.fetch_add(1, std::memory_order_seq_cst);
  FutexWakeAll(bell.rings);
}

void ShmGroup::WakePeers() {
  for (int rank = 0; rank < member_.size; ++rank) {
    if (rank != member_.rank) Wake(rank);
  }
}

void ShmGroup::Abort(std::string_view reason) {
  failure_.RaiseAborted(reason);
  own().bell().departed.store(1, std::memory_order_seq_cst);
  Ring(own().bell());
}

absl::Status ShmGroup::WaitSlowly(absl::FunctionRef<bool()> ready, RankSet needed,
                                  absl::Time deadline) {
  Clock::time_point start = Clock::now();
  absl::Status status;
  auto ready_or_failed = [&] { return ready() || failure_.raised(); };
  if (!Spin(ready) && !(YieldUntil(ready_or_failed) && ready())) {
    status = Sleep(ready, needed, deadline);
  }
  nanoseconds waited = Clock::now() - start;
  wait_ns_.fetch_add(waited.count(), std::memory_order_relaxed);
  // Who waited knows better what it means that the time is over.
  if (absl::IsDeadlineExceeded(status)) return status;
  if (!status.ok()) return Fail(std::move(status));
  return this->status();
}

bool ShmGroup::Spin(absl::FunctionRef<bool()> ready) {
  if (max_spin_ == nanoseconds(0)) return false;
  Clock::time_point end = Clock::now() + spin_;
  do {
    for (int i = 0; i < 4; ++i) {
      Pause();
      if (ready()) {
        spin_ = std::min(max_spin_, spin_ * 2);
        return true;
      }
    }
  } while (Clock::now() < end);
  spin_ = std::max(kMinSpin, spin_ / 2);
  return false;
}

absl::Status ShmGroup::Sleep(absl::FunctionRef<bool()> ready, RankSet needed, absl::Time deadline) {
  ShmBell& bell = own().bell();
  Clock::time_point next_check = Clock::now() + kLivenessPeriod;
  while (true) {
    uint32_t seen = bell.rings.load(std::memory_order_seq_cst);
    bell.sleeping.store(1, std::memory_order_seq_cst);
    bool check_alive = Clock::now() >= next_check;
    if (check_alive) next_check = Clock::now() + kLivenessPeriod;
    // Peers are looked at first: what they wrote before they left still counts.
    absl::Status peers = CheckPeers(needed, check_alive);
    bool is_ready = ready();
    if (!is_ready && peers.ok() && !failure_.raised() && absl::Now() < deadline) {
      nanoseconds left = absl::ToChronoNanoseconds(deadline - absl::Now());
      FutexWait(bell.rings, seen, std::clamp(left, nanoseconds(0), kLivenessPeriod));
    }
    bell.sleeping.store(0, std::memory_order_relaxed);
    if (is_ready) return absl::OkStatus();
    LOCKSTEP_RETURN_IF_ERROR(this->status());
    LOCKSTEP_RETURN_IF_ERROR(peers);
    if (absl::Now() >= deadline) return absl::DeadlineExceededError("peers did not come in time");
  }
}

absl::Status ShmGroup::CheckPeers(RankSet needed, bool check_alive) {
  RankSet departed = 0;
  for (int rank = 0; rank < member_.size; ++rank) {
    if ((needed & SetOf(rank)) == 0 || segments_[rank].data() == nullptr) continue;
    bool left = views_[rank].bell().departed.load(std::memory_order_seq_cst) != 0;
    if (left) departed |= SetOf(rank);
  }
  // A rank that died is the cause to name; those that left may have done so because of it.
  for (int rank = 0; rank < member_.size && (check_alive || departed != 0); ++rank) {
    bool known = (needed & ~departed & SetOf(rank)) != 0 && segments_[rank].data() != nullptr;
    if (!known || segments_[rank].OwnerAlive()) continue;
    segments_[rank].Unlink();
    return absl::UnavailableError(
        absl::StrCat("rank ", rank, " of group ", member_.group, " is gone: its process ended"));
  }
  if (departed == 0) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("rank ", std::countr_zero(departed), " of group ",
                                             member_.group, " is gone: it aborted or closed"));
}

}  // namespace lockstep::worker
