// Where a model's files are: a directory, or a name in the local Hugging Face cache.
#ifndef LOCKSTEP_MODEL_MODEL_DIRECTORY_H_
#define LOCKSTEP_MODEL_MODEL_DIRECTORY_H_

#include <filesystem>
#include <string>

#include "absl/status/statusor.h"

namespace lockstep::model {

/// A model directory from what a user typed after --model: a directory, or `org/name` found in the
/// local Hugging Face cache (HF_HUB_CACHE, HF_HOME, ~/.cache/huggingface/hub; the revision of
/// refs/main). Never downloads. Links are followed, as the cache's snapshots consist of links into
/// its blobs. NotFound says where was looked.
absl::StatusOr<std::filesystem::path> ResolveModelDirectory(const std::string& model);

/// A whole text file of at most 256 MiB. NotFound, or what errno says, with the path;
/// InvalidArgument for what is not a regular file.
absl::StatusOr<std::string> ReadTextFile(const std::filesystem::path& path);

}  // namespace lockstep::model

#endif  // LOCKSTEP_MODEL_MODEL_DIRECTORY_H_
