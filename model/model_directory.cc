// Directory look-up by the layout of huggingface_hub's cache:
// <cache>/models--<org>--<name>/{refs/main, snapshots/<revision>/}.
#include "model/model_directory.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <system_error>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"

namespace lockstep::model {
namespace {

namespace fs = std::filesystem;

constexpr uintmax_t kMaxTextBytes = uintmax_t{256} << 20;

/// The value of an environment variable that is set and not empty.
std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

/// Caches in the order in which huggingface_hub would take them; it uses only the first.
fs::path CacheDirectory() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (std::string cache = Environment(name); !cache.empty()) return cache;
  }
  if (std::string home = Environment("HF_HOME"); !home.empty()) return fs::path(home) / "hub";
  if (std::string cache = Environment("XDG_CACHE_HOME"); !cache.empty()) {
    return fs::path(cache) / "huggingface" / "hub";
  }
  std::string home = Environment("HOME");
  return fs::path(home.empty() ? "/" : home) / ".cache" / "huggingface" / "hub";
}

/// One component of a repository's name or a revision: never a way out of the cache.
bool IsSafeComponent(const std::string& component) {
  auto allowed = [](unsigned char c) {
    return std::isalnum(c) || c == '-' || c == '_' || c == '.';
  };
  return !component.empty() && component.find_first_not_of('.') != std::string::npos &&
         std::all_of(component.begin(), component.end(), allowed);
}

bool IsRepositoryName(const std::string& model) {
  std::vector<std::string> parts = absl::StrSplit(model, '/');
  return parts.size() <= 2 && std::all_of(parts.begin(), parts.end(), IsSafeComponent);
}

absl::StatusOr<fs::path> FindInCache(const std::string& model, const fs::path& cache) {
  std::vector<std::string> parts = absl::StrSplit(model, '/');
  fs::path repository = cache / absl::StrCat("models--", absl::StrJoin(parts, "--"));
  std::error_code ignored;
  if (!fs::is_directory(repository, ignored)) {
    return absl::NotFoundError(absl::StrCat(
        "--model=", model, " is neither a directory nor in the Hugging Face cache (looked for ",
        repository.string(),
        "); Lockstep never downloads: fetch it with huggingface-cli, or name "
        "a directory with config.json and model.safetensors"));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(std::string reference, ReadTextFile(repository / "refs" / "main"));
  std::string revision(absl::StripAsciiWhitespace(reference));
  fs::path snapshot = repository / "snapshots" / (IsSafeComponent(revision) ? revision : "");
  if (!IsSafeComponent(revision) || !fs::is_directory(snapshot, ignored)) {
    return absl::NotFoundError(
        absl::StrCat("--model=", model, ": ", (repository / "refs" / "main").string(),
                     " names a revision that is not in ", (repository / "snapshots").string(),
                     "; the download may be incomplete: fetch it again"));
  }
  return snapshot;
}

}  // namespace

absl::StatusOr<fs::path> ResolveModelDirectory(const std::string& model) {
  std::error_code error;
  if (model.empty()) {
    return absl::InvalidArgumentError(
        "--model is empty; give a directory or an org/name of the Hugging Face cache");
  }
  if (fs::is_directory(model, error)) return fs::absolute(model);
  if (fs::exists(model, error)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--model=", model, " is a file; give the directory that holds config.json"));
  }
  if (!IsRepositoryName(model)) {
    return absl::NotFoundError(absl::StrCat("--model=", model, ": there is no such directory"));
  }
  return FindInCache(model, CacheDirectory());
}

absl::StatusOr<std::string> ReadTextFile(const fs::path& path) {
  std::error_code error;
  fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) {
    return absl::NotFoundError(absl::StrCat(path.string(), " does not exist"));
  }
  if (error) {
    return absl::UnavailableError(absl::StrCat(path.string(), ": ", error.message()));
  }
  if (!fs::is_regular_file(status)) {
    return absl::InvalidArgumentError(absl::StrCat(path.string(), " is not a regular file"));
  }
  if (uintmax_t size = fs::file_size(path, error); error || size > kMaxTextBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path.string(), " has ", size, " bytes; at most ", kMaxTextBytes, " are read"));
  }
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file.is_open() || file.bad()) {
    return absl::UnavailableError(absl::StrCat(path.string(), ": ", std::strerror(errno)));
  }
  return text;
}

}  // namespace lockstep::model
