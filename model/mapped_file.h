// A file mapped for reading, with the care that mapping needs: reading a page beyond the end of a
// file that someone truncated meanwhile raises SIGBUS and would end the process.
#ifndef LOCKSTEP_MODEL_MAPPED_FILE_H_
#define LOCKSTEP_MODEL_MAPPED_FILE_H_

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lockstep::model {

/// Owns the mapping and the descriptor. Thread-safe.
class MappedFile {
 public:
  /// Opens and maps a regular file. NotFound, or what errno says, with the path; DataLoss for an
  /// empty file.
  static absl::StatusOr<std::unique_ptr<MappedFile>> Open(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  /// The whole file. Reading it is safe after Prepare of the part that is read.
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

  /// Makes `count` pieces readable, piece i of `piece_bytes` bytes at offset + i * stride_bytes,
  /// all within the file: checks that the file still is what was mapped, starts read-ahead of all
  /// pieces, and brings the pages in (MADV_POPULATE_READ, Linux 5.14), which reports a truncated
  /// file or a disk error where touching the page would raise SIGBUS. Blocks while the disk reads.
  /// DataLoss when the file changed or cannot be read. What stays open is a truncation between this
  /// call and the reads that follow it: model files must not be rewritten in place while they load.
  absl::Status Prepare(uint64_t offset, uint64_t piece_bytes, uint64_t stride_bytes,
                       uint64_t count) const;

 private:
  MappedFile(std::string path, int descriptor, const std::byte* data, const struct stat& status);
  absl::Status CheckUnchanged() const;
  absl::Status Advise(uint64_t begin, uint64_t end, int advice) const;

  const std::string path_;
  const int descriptor_;
  const std::byte* const data_;
  const size_t size_;
  const struct timespec modified_;
};

}  // namespace lockstep::model

#endif  // LOCKSTEP_MODEL_MAPPED_FILE_H_
