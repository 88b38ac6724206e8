// Helpers of text/ over the C ABI: owned strings into std::string, codes into absl::Status, and
// the one way in which model files are read.
#ifndef LOCKSTEP_TEXT_ABI_H_
#define LOCKSTEP_TEXT_ABI_H_

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "text/lockstep_text.h"

namespace lockstep::text {

// Copies and frees a string of the library.
std::string TakeString(LtString string);

// The status of a failed call: `context` (what was asked, of which file) and the library's words.
// LT_INVALID becomes InvalidArgument, LT_EXHAUSTED ResourceExhausted, LT_PANIC Internal. Frees
// `error`. `code` is not LT_OK.
absl::Status TakeError(LtCode code, LtString error, std::string_view context);

// The bytes of `text` as the ABI takes them.
inline const uint8_t* Bytes(std::string_view text) {
  return reinterpret_cast<const uint8_t*>(text.data());
}

// The whole file. NotFound when it does not exist, otherwise Unavailable; blocks on the disk.
absl::StatusOr<std::string> ReadTextFile(const std::filesystem::path& path);

}  // namespace lockstep::text

#endif  // LOCKSTEP_TEXT_ABI_H_
