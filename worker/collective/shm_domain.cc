// ShmDomain: the nonce that tells whether two processes see the same /dev/shm. Its file is made by
// the first process that asks and stays until the machine or the container ends.
#include <unistd.h>

#include <cerrno>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "worker/collective/collective.h"
#include "worker/collective/random_nonce.h"
#include "worker/collective/shm_file.h"

namespace lockstep::worker {
namespace {

constexpr size_t kNonceDigits = 32;

absl::StatusOr<std::string> ReadNonce(const std::string& path) {
  LOCKSTEP_ASSIGN_OR_RETURN(UniqueFd fd, OpenShmFile(path));
  char digits[kNonceDigits + 1];
  ssize_t count = pread(fd.get(), digits, sizeof(digits), 0);
  if (count < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", path));
  std::string nonce(digits, static_cast<size_t>(count));
  bool is_hex = true;
  for (char c : nonce) is_hex = is_hex && absl::ascii_isxdigit(static_cast<unsigned char>(c));
  if (nonce.size() != kNonceDigits || !is_hex) {
    return absl::DataLossError(
        absl::StrCat(path, " does not hold ", kNonceDigits, " hexadecimal digits; remove it"));
  }
  return nonce;
}

absl::Status WriteNonce(const std::string& path) {
  LOCKSTEP_ASSIGN_OR_RETURN(UniqueFd fd, MakeNamelessShmFile());
  if (pwrite(fd.get(), RandomNonce().data(), kNonceDigits, 0) != kNonceDigits) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path));
  }
  absl::Status named = NameShmFile(fd.get(), path);
  return absl::IsAlreadyExists(named) ? absl::OkStatus() : named;
}

}  // namespace

absl::StatusOr<std::string> ShmDomain() {
  std::string path = ShmPath("domain");
  absl::StatusOr<std::string> nonce = ReadNonce(path);
  if (!absl::IsNotFound(nonce.status())) return nonce;
  LOCKSTEP_RETURN_IF_ERROR(WriteNonce(path));
  return ReadNonce(path);
}

}  // namespace lockstep::worker
