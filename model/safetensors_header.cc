// Trusts nothing: every number is bounded before it takes part in arithmetic.
#include "model/safetensors_header.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/json_fields.h"

namespace lockstep::model {
namespace {

using nlohmann::json;

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the reference implementation
constexpr size_t kMaxDimensions = 8;
constexpr int64_t kMaxDimension = int64_t{1} << 48;

/// Bits of one element; nullopt for a dtype that safetensors does not have.
std::optional<uint64_t> BitsOf(std::string_view dtype) {
  static constexpr std::pair<std::string_view, uint64_t> kTypes[] = {
      {"F64", 64},        {"I64", 64},        {"U64", 64},    {"C64", 64},    {"F32", 32},
      {"I32", 32},        {"U32", 32},        {"F16", 16},    {"BF16", 16},   {"I16", 16},
      {"U16", 16},        {"F8_E4M3", 8},     {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"I8", 8},
      {"U8", 8},          {"BOOL", 8},        {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4},
      {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8},
  };
  for (const auto& [name, bits] : kTypes) {
    if (name == dtype) return bits;
  }
  return std::nullopt;
}

absl::Status Truncated(const std::string& name, uint64_t needed, uint64_t found) {
  return absl::DataLossError(absl::StrCat(name, " is truncated or damaged: it has ", found,
                                          " bytes, but its header speaks of ", needed,
                                          "; fetch the file again"));
}

uint64_t AnnouncedLength(std::span<const std::byte> file) {
  uint64_t length = 0;
  for (uint64_t i = 0; i < kLengthBytes; ++i) {
    length |= std::to_integer<uint64_t>(file[i]) << (8 * i);
  }
  return length;
}

absl::StatusOr<std::string_view> HeaderText(std::span<const std::byte> file,
                                            const std::string& name) {
  if (file.size() < kLengthBytes) return Truncated(name, kLengthBytes, file.size());
  uint64_t length = AnnouncedLength(file);
  if (length > kMaxHeaderBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": a header of ", length, " bytes is announced, the limit is ",
                     kMaxHeaderBytes, ": not a safetensors file, or damaged"));
  }
  if (length > file.size() - kLengthBytes) {
    return Truncated(name, kLengthBytes + length, file.size());
  }
  return std::string_view(reinterpret_cast<const char*>(file.data()) + kLengthBytes, length);
}

absl::StatusOr<std::vector<int64_t>> ReadIntegers(const JsonFields& fields, std::string_view key,
                                                  size_t max_count, int64_t max_value) {
  const json* list = fields.Find(key);
  if (list == nullptr || !list->is_array() || list->size() > max_count) {
    return fields.Error(key, absl::StrCat("must be a list of at most ", max_count, " integers"));
  }
  std::vector<int64_t> values;
  for (const json& entry : *list) {
    LOCKSTEP_ASSIGN_OR_RETURN(
        int64_t value,
        IntegerIn(entry, absl::StrCat(fields.where(), ": ", std::string(key)), 0, max_value));
    values.push_back(value);
  }
  return values;
}

/// Bytes of a tensor, or an error when they do not fit 63 bits or are no whole number.
absl::StatusOr<uint64_t> TensorBytes(const JsonFields& fields, const SafetensorsEntry& entry) {
  std::optional<uint64_t> bits = BitsOf(entry.dtype);
  if (!bits.has_value()) {
    return fields.Error("dtype", absl::StrCat(Printable(entry.dtype), " is not known"));
  }
  uint64_t total = *bits;
  for (int64_t dimension : entry.shape) {
    if (__builtin_mul_overflow(total, static_cast<uint64_t>(dimension), &total)) {
      return fields.Error("shape", "the product of the dimensions overflows 64 bits");
    }
  }
  if (total % 8 != 0) return fields.Error("shape", "the tensor ends within a byte");
  return total / 8;
}

absl::StatusOr<SafetensorsEntry> ReadEntry(const JsonFields& fields, uint64_t data_begin,
                                           uint64_t file_bytes) {
  SafetensorsEntry entry;
  LOCKSTEP_ASSIGN_OR_RETURN(std::optional<std::string> dtype, fields.OptionalString("dtype"));
  if (!dtype.has_value()) return fields.Error("dtype", "missing");
  entry.dtype = *dtype;
  LOCKSTEP_ASSIGN_OR_RETURN(entry.shape,
                            ReadIntegers(fields, "shape", kMaxDimensions, kMaxDimension));
  LOCKSTEP_ASSIGN_OR_RETURN(std::vector<int64_t> offsets,
                            ReadIntegers(fields, "data_offsets", 2, INT64_MAX));
  if (offsets.size() != 2 || offsets[0] > offsets[1]) {
    return fields.Error("data_offsets", "must be two ascending integers");
  }
  uint64_t bytes_after_header = file_bytes - data_begin;
  if (static_cast<uint64_t>(offsets[1]) > bytes_after_header) {
    return Truncated(fields.where(), data_begin + static_cast<uint64_t>(offsets[1]), file_bytes);
  }
  LOCKSTEP_ASSIGN_OR_RETURN(uint64_t bytes, TensorBytes(fields, entry));
  if (static_cast<uint64_t>(offsets[1] - offsets[0]) != bytes) {
    return fields.Error("data_offsets", absl::StrCat("span ", offsets[1] - offsets[0],
                                                     " bytes, but dtype and shape make ", bytes));
  }
  entry.begin = data_begin + static_cast<uint64_t>(offsets[0]);
  entry.end = data_begin + static_cast<uint64_t>(offsets[1]);
  return entry;
}

/// Sorted by offset, the tensors must follow each other from the header's end to the file's.
absl::Status CheckTiling(const SafetensorsIndex& index, uint64_t data_begin, uint64_t file_bytes,
                         const std::string& name) {
  std::vector<const SafetensorsIndex::value_type*> order;
  for (const auto& item : index) order.push_back(&item);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  uint64_t expected = data_begin;
  for (const auto* item : order) {
    if (item->second.begin != expected) {
      return absl::InvalidArgumentError(absl::StrCat(
          name, ": tensor ", Printable(item->first), " begins at byte ", item->second.begin,
          item->second.begin < expected ? ", inside the tensor before it, which ends at "
                                        : ", leaving a gap after ",
          expected));
    }
    expected = item->second.end;
  }
  if (expected == file_bytes) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat(name, " has ", file_bytes - expected, " bytes after its last tensor: damaged"));
}

}  // namespace

uint64_t SafetensorsHeaderEnd(std::span<const std::byte> file) {
  if (file.size() < kLengthBytes) return file.size();
  uint64_t length = std::min(AnnouncedLength(file), kMaxHeaderBytes);
  return kLengthBytes + std::min<uint64_t>(length, file.size() - kLengthBytes);
}

absl::StatusOr<SafetensorsIndex> ParseSafetensorsHeader(std::span<const std::byte> file,
                                                        const std::string& name) {
  LOCKSTEP_ASSIGN_OR_RETURN(std::string_view text, HeaderText(file, name));
  LOCKSTEP_ASSIGN_OR_RETURN(json header, ParseJsonObject(text, name + ": the header"));
  uint64_t data_begin = kLengthBytes + text.size();
  SafetensorsIndex index;
  for (const auto& [tensor, description] : header.items()) {
    if (tensor == "__metadata__") continue;
    std::string where = absl::StrCat(name, ": tensor ", Printable(tensor));
    if (!description.is_object()) {
      return absl::InvalidArgumentError(where + " is not described by an object");
    }
    LOCKSTEP_ASSIGN_OR_RETURN(index[tensor],
                              ReadEntry(JsonFields(description, where), data_begin, file.size()));
  }
  LOCKSTEP_RETURN_IF_ERROR(CheckTiling(index, data_begin, file.size(), name));
  return index;
}

}  // namespace lockstep::model
