// mmap, fstat and madvise behind absl::Status.
#include "model/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22  // <asm-generic/mman-common.h> since Linux 5.14
#endif

namespace lockstep::model {
namespace {

/// Pieces closer together than this are prepared as one span: read-ahead fetches the gaps anyway.
constexpr uint64_t kMinSeparateGap = 64 << 10;

absl::Status SystemError(const std::string& path, const char* call) {
  std::string message = absl::StrCat(path, ": ", call, ": ", std::strerror(errno));
  if (errno == ENOENT) return absl::NotFoundError(message);
  if (errno == EACCES) return absl::PermissionDeniedError(message);
  return absl::UnavailableError(message);
}

}  // namespace

absl::StatusOr<std::unique_ptr<MappedFile>> MappedFile::Open(const std::filesystem::path& path) {
  // O_NONBLOCK: a FIFO in the place of the file must not hold the process up.
  int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return SystemError(path.string(), "open");
  struct stat status;
  if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size == 0) {
    bool empty = S_ISREG(status.st_mode);
    close(descriptor);
    if (empty) return absl::DataLossError(absl::StrCat(path.string(), " is empty"));
    return absl::InvalidArgumentError(absl::StrCat(path.string(), " is not a regular file"));
  }
  void* data = mmap(nullptr, static_cast<size_t>(status.st_size), PROT_READ, MAP_SHARED, descriptor,
                    /*offset=*/0);
  if (data == MAP_FAILED) {
    absl::Status error = SystemError(path.string(), "mmap");
    close(descriptor);
    return error;
  }
  return std::unique_ptr<MappedFile>(
      new MappedFile(path.string(), descriptor, static_cast<const std::byte*>(data), status));
}

MappedFile::MappedFile(std::string path, int descriptor, const std::byte* data,
                       const struct stat& status)
    : path_(std::move(path)),
      descriptor_(descriptor),
      data_(data),
      size_(static_cast<size_t>(status.st_size)),
      modified_(status.st_mtim) {}

MappedFile::~MappedFile() {
  munmap(const_cast<std::byte*>(data_), size_);
  close(descriptor_);
}

absl::Status MappedFile::CheckUnchanged() const {
  struct stat status;
  if (fstat(descriptor_, &status) != 0) return SystemError(path_, "fstat");
  if (static_cast<size_t>(status.st_size) != size_) {
    return absl::DataLossError(absl::StrCat(path_, " changed while it was read: it had ", size_,
                                            " bytes and now has ", status.st_size));
  }
  if (status.st_mtim.tv_sec != modified_.tv_sec || status.st_mtim.tv_nsec != modified_.tv_nsec) {
    return absl::DataLossError(absl::StrCat(path_, " was written to while it was read"));
  }
  return absl::OkStatus();
}

absl::Status MappedFile::Advise(uint64_t begin, uint64_t end, int advice) const {
  static const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  uint64_t first = begin / page * page;
  void* address = const_cast<std::byte*>(data_ + first);
  int result;
  do {
    result = madvise(address, end - first, advice);
  } while (result != 0 && errno == EINTR);
  // EINVAL: a kernel without this advice; reading works all the same, without the protection.
  if (result == 0 || errno == EINVAL) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(path_, ": bytes ", begin, " to ", end,
                                          " cannot be read: ", std::strerror(errno)));
}

absl::Status MappedFile::Prepare(uint64_t offset, uint64_t piece_bytes, uint64_t stride_bytes,
                                 uint64_t count) const {
  LOCKSTEP_RETURN_IF_ERROR(CheckUnchanged());
  if (piece_bytes == 0 || count == 0) return absl::OkStatus();
  if (count > 1 && stride_bytes - piece_bytes < kMinSeparateGap) {
    piece_bytes += (count - 1) * stride_bytes;
    count = 1;
  }
  for (int advice : {MADV_WILLNEED, MADV_POPULATE_READ}) {
    for (uint64_t piece = 0; piece < count; ++piece) {
      uint64_t begin = offset + piece * stride_bytes;
      LOCKSTEP_RETURN_IF_ERROR(Advise(begin, begin + piece_bytes, advice));
    }
  }
  return absl::OkStatus();
}

}  // namespace lockstep::model
