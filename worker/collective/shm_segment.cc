// See shm_segment.h.
#include "worker/collective/shm_segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "worker/collective/random_nonce.h"
#include "worker/collective/shm_file.h"

namespace lockstep::worker {
namespace {

constexpr std::string_view kNamePrefix = "segment-";

struct flock WholeFile(short type) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  return lock;
}

/// Whether another open file description holds the owner's lock.
bool IsLocked(int fd) {
  struct flock lock = WholeFile(F_RDLCK);
  return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

absl::Status TooLittleSharedMemory(size_t bytes, int error) {
  struct statvfs info = {};
  statvfs("/dev/shm", &info);
  double mib = static_cast<double>(info.f_frsize) / (1 << 20);
  return absl::ResourceExhaustedError(absl::StrCat(
      "this rank needs ", (bytes >> 20) + 1, " MiB of shared memory, but /dev/shm has ",
      static_cast<int64_t>(static_cast<double>(info.f_bavail) * mib), " MiB free of ",
      static_cast<int64_t>(static_cast<double>(info.f_blocks) * mib), " (",
      std::generic_category().message(error),
      "); enlarge it (docker run --shm-size, in Kubernetes the sizeLimit of an emptyDir of medium "
      "Memory mounted on /dev/shm) or allow fewer tokens a step"));
}

absl::Status Allocate(int fd, size_t bytes) {
  int error;
  do {
    error = posix_fallocate(fd, 0, static_cast<off_t>(bytes));
  } while (error == EINTR);
  return error == 0 ? absl::OkStatus() : TooLittleSharedMemory(bytes, error);
}

}  // namespace

absl::StatusOr<ShmSegment> ShmSegment::Map(UniqueFd fd, size_t bytes, bool owner) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd.get(), 0);
  if (data == MAP_FAILED) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot map ", bytes, " bytes of /dev/shm"));
  }
  ShmSegment segment;
  segment.fd_ = std::move(fd);
  segment.data_ = static_cast<std::byte*>(data);
  segment.bytes_ = bytes;
  segment.owner_ = owner;
  return segment;
}

absl::StatusOr<ShmSegment> ShmSegment::Create(size_t bytes) {
  LOCKSTEP_ASSIGN_OR_RETURN(UniqueFd fd, MakeNamelessShmFile());
  struct flock lock = WholeFile(F_WRLCK);
  if (fcntl(fd.get(), F_OFD_SETLK, &lock) != 0) {
    return absl::ErrnoToStatus(errno, "cannot lock a file in /dev/shm");
  }
  LOCKSTEP_RETURN_IF_ERROR(Allocate(fd.get(), bytes));
  return Map(std::move(fd), bytes, /*owner=*/true);
}

absl::StatusOr<ShmSegment> ShmSegment::Open(const std::string& name, size_t bytes) {
  if (!absl::StartsWith(name, kNamePrefix.data()) || absl::StrContains(name, '/')) {
    return absl::InvalidArgumentError(absl::StrCat("\"", name, "\" is no segment's name"));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(UniqueFd fd, OpenShmFile(ShmPath(name)));
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return absl::ErrnoToStatus(errno, absl::StrCat("stat ", name));
  if (info.st_size != static_cast<off_t>(bytes)) {
    return absl::FailedPreconditionError(
        absl::StrCat("segment ", name, " has ", info.st_size, " bytes; expected ", bytes,
                     ": the ranks disagree about the largest addend or run different versions"));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(ShmSegment segment, Map(std::move(fd), bytes, /*owner=*/false));
  segment.name_ = name;
  return segment;
}

void ShmSegment::RemoveOrphans() {
  std::string prefix = ShmPath(kNamePrefix);
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm", ignored)) {
    std::string path = entry.path().string();
    if (!absl::StartsWith(path, prefix)) continue;
    absl::StatusOr<UniqueFd> fd = OpenShmFile(path);
    // A segment is locked before it gets a name, so that an unlocked one has no owner any more.
    if (fd.ok() && !IsLocked(fd->get())) unlink(path.c_str());
  }
}

ShmSegment::ShmSegment(ShmSegment&& other) noexcept { *this = std::move(other); }

ShmSegment& ShmSegment::operator=(ShmSegment&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(owner_, other.owner_);
  std::swap(name_, other.name_);
  return *this;
}

ShmSegment::~ShmSegment() {
  if (owner_) Unlink();
  if (data_ != nullptr) munmap(data_, bytes_);
}

absl::Status ShmSegment::Publish() {
  std::string name = absl::StrCat(kNamePrefix.data(), RandomNonce());
  LOCKSTEP_RETURN_IF_ERROR(NameShmFile(fd_.get(), ShmPath(name)));
  name_ = std::move(name);
  return absl::OkStatus();
}

bool ShmSegment::OwnerAlive() const { return owner_ || IsLocked(fd_.get()); }

void ShmSegment::Unlink() const {
  if (!name_.empty()) unlink(ShmPath(name_).c_str());
}

}  // namespace lockstep::worker
