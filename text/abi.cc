// The seam to the Rust crate: turns its owned strings and codes into ours.
#include "text/abi.h"

#include <fstream>
#include <sstream>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace lockstep::text {

std::string TakeString(LtString string) {
  std::string result(reinterpret_cast<const char*>(string.data), string.size);
  lt_string_free(string);
  return result;
}

absl::Status TakeError(LtCode code, LtString error, std::string_view context) {
  const std::string message = std::string(context) + ": " + TakeString(error);
  switch (code) {
    case LT_INVALID:
      return absl::InvalidArgumentError(message);
    case LT_EXHAUSTED:
      return absl::ResourceExhaustedError(message);
    default:
      return absl::InternalError(message);
  }
}

absl::StatusOr<std::string> ReadTextFile(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    return absl::NotFoundError(absl::StrCat(path.string(), " does not exist"));
  }
  if (!std::filesystem::is_regular_file(path, error)) {
    return absl::UnavailableError(absl::StrCat(path.string(), " is not a regular file"));
  }
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  // An empty file sets failbit on the sink, which is no failure to read.
  if (file && file.peek() != std::ifstream::traits_type::eof()) content << file.rdbuf();
  if (!file.is_open() || file.bad() || content.fail()) {
    return absl::UnavailableError(absl::StrCat("cannot read ", path.string()));
  }
  return content.str();
}

}  // namespace lockstep::text
