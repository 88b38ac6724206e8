// Typed reading of JSON that strangers wrote: every refusal names the file, the key, what was found
// and what would be legal, and nothing in the text can throw or crash.
#ifndef LOCKSTEP_MODEL_JSON_FIELDS_H_
#define LOCKSTEP_MODEL_JSON_FIELDS_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lockstep::model {

/// Parses `text`, which must be one JSON object, without duplicate keys at any depth and nested at
/// most 64 deep. InvalidArgument begins with `what` ("config.json") and says where it went wrong.
absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view text, std::string_view what);

/// `text` with everything but printable ASCII replaced by '?', cut to 200 characters: for quoting
/// strangers' bytes in messages.
std::string Printable(std::string_view text);

/// One JSON object. Borrows it; does not outlive it. A key whose value is null counts as absent.
/// Every getter gives InvalidArgument naming the key for a value of another type or out of range.
class JsonFields {
 public:
  /// `where` begins every message: "config.json" or "config.json: rope_scaling".
  JsonFields(const nlohmann::json& object, std::string where);

  bool Has(std::string_view key) const { return Find(key) != nullptr; }

  /// Integers in [min, max]. 8.0 is not an integer.
  absl::StatusOr<int64_t> Int(std::string_view key, int64_t min, int64_t max) const;
  absl::StatusOr<std::optional<int64_t>> OptionalInt(std::string_view key, int64_t min,
                                                     int64_t max) const;
  /// Finite numbers in [min, max].
  absl::StatusOr<double> Number(std::string_view key, double min, double max) const;
  absl::StatusOr<std::optional<double>> OptionalNumber(std::string_view key, double min,
                                                       double max) const;
  absl::StatusOr<bool> BoolOr(std::string_view key, bool fallback) const;
  absl::StatusOr<std::optional<std::string>> OptionalString(std::string_view key) const;
  /// A nested object; the key must be present.
  absl::StatusOr<JsonFields> Object(std::string_view key) const;
  /// The value as it stands, or nullptr when absent or null.
  const nlohmann::json* Find(std::string_view key) const;

  /// InvalidArgument "<where>: <key>: <problem>".
  absl::Status Error(std::string_view key, std::string_view problem) const;
  const std::string& where() const { return where_; }

 private:
  const nlohmann::json* object_;
  std::string where_;
};

/// `value` as an integer in [min, max], or InvalidArgument "<label> is ..., must be ...".
absl::StatusOr<int64_t> IntegerIn(const nlohmann::json& value, const std::string& label,
                                  int64_t min, int64_t max);

}  // namespace lockstep::model

#endif  // LOCKSTEP_MODEL_JSON_FIELDS_H_
