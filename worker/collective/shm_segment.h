// One shared-memory segment: a file in /dev/shm that its owner makes, locks and maps, and that
// peers open by name and map. The name is dropped as soon as it is of no more use; the memory lives
// until the last process that maps it has gone.
//
// Liveness. The owner holds an open-file-description lock on the file for as long as it has the
// segment; the kernel drops it when the process ends in whatever way, and peers in any PID
// namespace can see that. A stopped process keeps its lock.
#ifndef LOCKSTEP_WORKER_COLLECTIVE_SHM_SEGMENT_H_
#define LOCKSTEP_WORKER_COLLECTIVE_SHM_SEGMENT_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/collective/unique_fd.h"

namespace lockstep::worker {

/// A mapping, read-write, of the whole segment. Movable; destruction unmaps, and drops the name if
/// this is the owner. Not thread-safe, but for data(), OwnerAlive() and Unlink().
class ShmSegment {
 public:
  /// A new segment of zeros, without a name, whose every page is allocated: ResourceExhausted if
  /// /dev/shm is too small, rather than a SIGBUS later.
  static absl::StatusOr<ShmSegment> Create(size_t bytes);
  /// Maps the segment that its owner published as `name`; NotFound if there is none by that name,
  /// FailedPrecondition if it is not of `bytes`.
  static absl::StatusOr<ShmSegment> Open(const std::string& name, size_t bytes);
  /// Removes segments that a dead process of this user left behind between Publish and Unlink.
  static void RemoveOrphans();

  ShmSegment() = default;
  ShmSegment(ShmSegment&& other) noexcept;
  ShmSegment& operator=(ShmSegment&& other) noexcept;
  ~ShmSegment();

  /// Gives the segment a random name by which peers can Open it; owner only.
  absl::Status Publish();
  /// Empty before Publish.
  const std::string& name() const { return name_; }
  std::byte* data() const { return data_; }

  /// Whether the process that created the segment still has it.
  bool OwnerAlive() const;
  /// Drops the name, if it is still there.
  void Unlink() const;

 private:
  static absl::StatusOr<ShmSegment> Map(UniqueFd fd, size_t bytes, bool owner);

  UniqueFd fd_;
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
  bool owner_ = false;
  std::string name_;
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_COLLECTIVE_SHM_SEGMENT_H_
