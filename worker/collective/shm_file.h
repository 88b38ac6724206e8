// Files in /dev/shm: appear whole or not at all, carry the user's id in their name, and are
// believed only if they belong to this user.
#ifndef LOCKSTEP_WORKER_COLLECTIVE_SHM_FILE_H_
#define LOCKSTEP_WORKER_COLLECTIVE_SHM_FILE_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/collective/unique_fd.h"

namespace lockstep::worker {

/// "/dev/shm/lockstep-UID-SUFFIX".
std::string ShmPath(std::string_view suffix);

/// A new file in /dev/shm that has no name yet and vanishes with its last descriptor. Mode 0600.
absl::StatusOr<UniqueFd> MakeNamelessShmFile();

/// Gives a nameless file a name, atomically; AlreadyExists if the name is taken.
absl::Status NameShmFile(int fd, const std::string& path);

/// Opens for reading and writing; NotFound if there is none, PermissionDenied unless it is a plain
/// file of this user that nobody else may write.
absl::StatusOr<UniqueFd> OpenShmFile(const std::string& path);

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_COLLECTIVE_SHM_FILE_H_
