// See shm_file.h.
#include "worker/collective/shm_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"

namespace lockstep::worker {

std::string ShmPath(std::string_view suffix) {
  return absl::StrCat("/dev/shm/lockstep-", geteuid(), "-",
                      absl::string_view(suffix.data(), suffix.size()));
}

absl::StatusOr<UniqueFd> MakeNamelessShmFile() {
  UniqueFd fd(open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!fd) {
    return absl::ErrnoToStatus(
        errno, "cannot make a file in /dev/shm, where ranks of one node meet; mount a tmpfs there");
  }
  return fd;
}

absl::Status NameShmFile(int fd, const std::string& path) {
  std::string source = absl::StrCat("/proc/self/fd/", fd);
  if (linkat(AT_FDCWD, source.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot name ", path));
  }
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> OpenShmFile(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return absl::ErrnoToStatus(errno, absl::StrCat("stat ", path));
  if (!S_ISREG(info.st_mode) || info.st_uid != geteuid() || (info.st_mode & 0022) != 0) {
    return absl::PermissionDeniedError(
        absl::StrCat(path, " has owner ", info.st_uid, " and mode ", absl::Hex(info.st_mode),
                     " (hexadecimal); expected a plain file of user ", geteuid(),
                     " that nobody else may write; remove it"));
  }
  return fd;
}

}  // namespace lockstep::worker
