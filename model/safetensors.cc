// Checkpoints of one safetensors file, or of several with an index that says which tensor is where.
#include <algorithm>
#include <map>
#include <set>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "model/json_fields.h"
#include "model/mapped_file.h"
#include "model/model_directory.h"
#include "model/near_names.h"
#include "model/safetensors_header.h"
#include "model/weight_source.h"

namespace lockstep::model {
namespace {

namespace fs = std::filesystem;

constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";

struct OpenFile {
  std::unique_ptr<MappedFile> file;
  SafetensorsIndex tensors;
};

struct TensorPlace {
  const MappedFile* file;
  SafetensorsEntry entry;
};
using TensorPlaces = std::map<std::string, TensorPlace, std::less<>>;

std::string ShapeText(const std::vector<int64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

bool SameShape(const std::vector<int64_t>& shape, WeightShape full) {
  if (shape.size() == 1) return shape[0] == full.rows && full.cols == 1;
  return shape.size() == 2 && shape[0] == full.rows && shape[1] == full.cols;
}

bool IsWithin(int64_t begin, int64_t count, int64_t total) {
  return begin >= 0 && count >= 0 && begin <= total && count <= total - begin;
}

class SafetensorsSource final : public WeightSource {
 public:
  SafetensorsSource(std::vector<std::unique_ptr<MappedFile>> files, TensorPlaces places)
      : files_(std::move(files)), places_(std::move(places)) {}

  absl::StatusOr<TensorRows> Rows(std::string_view name, WeightShape full, int64_t row_begin,
                                  int64_t rows, int64_t col_begin, int64_t cols,
                                  std::vector<std::byte>&) const override {
    LOCKSTEP_ASSIGN_OR_RETURN(const TensorPlace* place, Find(name));
    LOCKSTEP_ASSIGN_OR_RETURN(DType dtype, CheckTensor(name, *place, full));
    if (!IsWithin(row_begin, rows, full.rows) || !IsWithin(col_begin, cols, full.cols)) {
      return absl::InvalidArgumentError(
          absl::StrCat(std::string(name), ": rows ", row_begin, " + ", rows, " and columns ",
                       col_begin, " + ", cols, " are not within ", ShapeText(place->entry.shape)));
    }
    int64_t element = static_cast<int64_t>(SizeOf(dtype));
    int64_t stride = full.cols * element;
    uint64_t offset =
        place->entry.begin + static_cast<uint64_t>(row_begin * stride + col_begin * element);
    LOCKSTEP_RETURN_IF_ERROR(place->file->Prepare(offset, static_cast<uint64_t>(cols * element),
                                                  static_cast<uint64_t>(stride),
                                                  static_cast<uint64_t>(rows)));
    return TensorRows{place->file->bytes().data() + offset, rows, cols, stride, dtype};
  }

 private:
  absl::StatusOr<const TensorPlace*> Find(std::string_view name) const {
    auto found = places_.find(name);
    if (found != places_.end()) return &found->second;
    std::vector<std::string> names;
    for (const auto& [known, place] : places_) names.push_back(known);
    std::string near = absl::StrJoin(NearNames(name, names), ", ");
    return absl::NotFoundError(absl::StrCat("the checkpoint of ", places_.size(),
                                            " tensors has no tensor ", std::string(name),
                                            near.empty() ? "" : "; near names: ", Printable(near)));
  }

  static absl::StatusOr<DType> CheckTensor(std::string_view name, const TensorPlace& place,
                                           WeightShape full) {
    const SafetensorsEntry& entry = place.entry;
    std::string where = absl::StrCat(place.file->path(), ": tensor ", std::string(name));
    if (!SameShape(entry.shape, full)) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, " has the shape ", ShapeText(entry.shape),
                       ", but config.json makes it [", full.rows, ", ", full.cols, "]"));
    }
    if (std::optional<DType> dtype = ParseDType(entry.dtype)) return *dtype;
    return absl::InvalidArgumentError(
        absl::StrCat(where, " is ", entry.dtype, "; weights may be BF16, F16 or F32"));
  }

  const std::vector<std::unique_ptr<MappedFile>> files_;
  const TensorPlaces places_;
};

absl::StatusOr<OpenFile> OpenAndCheck(const fs::path& path) {
  OpenFile open;
  LOCKSTEP_ASSIGN_OR_RETURN(open.file, MappedFile::Open(path));
  std::span<const std::byte> bytes = open.file->bytes();
  LOCKSTEP_RETURN_IF_ERROR(open.file->Prepare(0, 1, 1, 1));
  LOCKSTEP_RETURN_IF_ERROR(open.file->Prepare(0, SafetensorsHeaderEnd(bytes), 1, 1));
  LOCKSTEP_ASSIGN_OR_RETURN(open.tensors, ParseSafetensorsHeader(bytes, path.string()));
  return open;
}

absl::StatusOr<std::unique_ptr<WeightSource>> OpenSingle(const fs::path& path) {
  LOCKSTEP_ASSIGN_OR_RETURN(OpenFile open, OpenAndCheck(path));
  TensorPlaces places;
  for (auto& [name, entry] : open.tensors) {
    places.emplace(name, TensorPlace{open.file.get(), std::move(entry)});
  }
  std::vector<std::unique_ptr<MappedFile>> files;
  files.push_back(std::move(open.file));
  return std::make_unique<SafetensorsSource>(std::move(files), std::move(places));
}

/// The index's weight_map, checked to name plain files beside it.
absl::StatusOr<std::map<std::string, std::string>> ReadWeightMap(const fs::path& path) {
  LOCKSTEP_ASSIGN_OR_RETURN(std::string text, ReadTextFile(path));
  LOCKSTEP_ASSIGN_OR_RETURN(nlohmann::json index, ParseJsonObject(text, path.string()));
  JsonFields fields(index, path.string());
  LOCKSTEP_RETURN_IF_ERROR(fields.Object("weight_map").status());
  std::map<std::string, std::string> weight_map;
  for (const auto& [tensor, file] : fields.Find("weight_map")->items()) {
    std::string name = file.is_string() ? file.get<std::string>() : "";
    if (name.empty() || name.find('\0') != std::string::npos || name == ".." ||
        fs::path(name).filename() != name || !name.ends_with(".safetensors")) {
      return fields.Error("weight_map",
                          absl::StrCat(Printable(tensor), " lies in \"", Printable(name),
                                       "\", which is no .safetensors file name"));
    }
    weight_map.emplace(tensor, name);
  }
  return weight_map;
}

absl::StatusOr<std::unique_ptr<WeightSource>> OpenSharded(const fs::path& directory) {
  fs::path index = directory / kIndexFile;
  using WeightMap = std::map<std::string, std::string>;
  LOCKSTEP_ASSIGN_OR_RETURN(WeightMap weight_map, ReadWeightMap(index));
  std::map<std::string, OpenFile> shards;
  TensorPlaces places;
  for (const auto& [tensor, file] : weight_map) {
    if (!shards.contains(file)) {
      absl::StatusOr<OpenFile> open = OpenAndCheck(directory / file);
      if (absl::IsNotFound(open.status())) {
        return absl::NotFoundError(absl::StrCat(index.string(), " names the shard ", file,
                                                ", which is missing; fetch the model again"));
      }
      if (!open.ok()) return open.status();
      shards.emplace(file, *std::move(open));
    }
    const OpenFile& shard = shards.at(file);
    auto found = shard.tensors.find(tensor);
    if (found == shard.tensors.end()) {
      return absl::InvalidArgumentError(absl::StrCat(index.string(), " places ", Printable(tensor),
                                                     " in ", file, ", which does not hold it"));
    }
    places.emplace(tensor, TensorPlace{shard.file.get(), found->second});
  }
  std::vector<std::unique_ptr<MappedFile>> files;
  for (auto& [name, shard] : shards) files.push_back(std::move(shard.file));
  return std::make_unique<SafetensorsSource>(std::move(files), std::move(places));
}

/// The refusal for a directory without safetensors: by the name of the format that is there.
absl::Status ExplainMissing(const fs::path& directory) {
  static constexpr std::pair<std::string_view, std::string_view> kFormats[] = {
      {".bin", "pickled PyTorch weights"},
      {".pt", "pickled PyTorch weights"},
      {".pth", "pickled PyTorch weights"},
      {".gguf", "GGUF"},
      {".h5", "TensorFlow weights"},
      {".msgpack", "Flax weights"},
      {".onnx", "ONNX"},
  };
  std::error_code error;
  std::set<fs::path> files;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    files.insert(entry->path());
  }
  for (const fs::path& file : files) {
    for (const auto& [extension, format] : kFormats) {
      if (file.extension() != extension) continue;
      return absl::UnimplementedError(absl::StrCat(file.string(), ": ", std::string(format),
                                                   " are not supported; convert the model to ",
                                                   kSingleFile));
    }
  }
  return absl::NotFoundError(
      absl::StrCat(directory.string(), " has neither ", kSingleFile, " nor ", kIndexFile));
}

}  // namespace

absl::StatusOr<std::unique_ptr<WeightSource>> OpenSafetensors(const fs::path& directory) {
  std::error_code error;
  if (fs::exists(directory / kSingleFile, error)) return OpenSingle(directory / kSingleFile);
  if (fs::exists(directory / kIndexFile, error)) return OpenSharded(directory);
  return ExplainMissing(directory);
}

}  // namespace lockstep::model
