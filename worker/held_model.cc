// What makes two loads the same, and the choice of the weights' source.
#include "worker/held_model.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "model/weight_source.h"

namespace lockstep::worker {
namespace {

absl::StatusOr<std::unique_ptr<model::WeightSource>> OpenSource(const v1::ModelAssignment& model) {
  switch (model.load_format()) {
    case v1::LOAD_FORMAT_SAFETENSORS:
      return model::OpenSafetensors(model.directory());
    case v1::LOAD_FORMAT_DUMMY:
      return model::MakeDummyWeights(model.dummy_seed());
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("load format ", static_cast<int>(model.load_format()),
                       " is not known to this worker; known are safetensors and dummy"));
  }
}

// Names, sizes and times of the directory's files; unreadable ones are the source's to report.
std::string FilesFingerprint(const std::string& directory) {
  namespace fs = std::filesystem;
  std::error_code error;
  std::vector<std::string> files;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    std::error_code file_error;
    uintmax_t size = fs::file_size(it->path(), file_error);
    auto time = fs::last_write_time(it->path(), file_error).time_since_epoch().count();
    files.push_back(absl::StrCat(it->path().filename().string(), " ", size, " ", time));
  }
  std::sort(files.begin(), files.end());
  return absl::StrJoin(files, "\n");
}

std::string Fingerprint(const v1::ModelAssignment& model, const model::RankShard& shard) {
  std::string files;
  if (model.load_format() == v1::LOAD_FORMAT_SAFETENSORS) {
    files = FilesFingerprint(model.directory());
  }
  return absl::StrCat(model.SerializeAsString(), "|", shard.tp_rank, "/", shard.tp_size, "|",
                      shard.pp_stage, "/", shard.pp_size, "|", files);
}

}  // namespace

absl::Status HeldModel::Ensure(const v1::ModelAssignment& model, const model::DecoderSpec& spec,
                               const model::RankShard& shard, DType dtype,
                               kernels::ThreadPool& pool, const LoadProgressFn& progress,
                               const std::function<bool()>& cancelled, bool& loaded) {
  std::string fingerprint = Fingerprint(model, shard);
  loaded = !weights_ || fingerprint != fingerprint_;
  if (!loaded) return absl::OkStatus();
  weights_.reset();
  LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<model::WeightSource> source, OpenSource(model));
  LOCKSTEP_ASSIGN_OR_RETURN(
      weights_, LoadShardWeights(spec, shard, *source, dtype, pool, progress, cancelled));
  fingerprint_ = std::move(fingerprint);
  return absl::OkStatus();
}

}  // namespace lockstep::worker
