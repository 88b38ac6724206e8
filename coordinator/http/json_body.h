// JSON of a client, read with bounds, and its fields taken out one by one, so that none is ignored
// in silence. Pure.
#ifndef LOCKSTEP_COORDINATOR_HTTP_JSON_BODY_H_
#define LOCKSTEP_COORDINATOR_HTTP_JSON_BODY_H_

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace lockstep::coordinator {

/// The object that `body` spells. InvalidArgument, with the place, when it is malformed, no object,
/// nested deeper than 64, or of more than two million values, so that 64 MiB of brackets do not
/// become gigabytes.
absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view body);

/// Takes fields out of an object. A null counts as absent. The first error is kept and told by
/// Finish; what a getter returns after one does not matter. The object must outlive the reader.
class FieldReader {
 public:
  /// `where` stands before the names in errors: "messages[2]." or nothing.
  explicit FieldReader(const nlohmann::json& object, std::string where = "");

  std::optional<bool> Bool(const std::string& name);
  bool BoolOr(const std::string& name, bool otherwise) { return Bool(name).value_or(otherwise); }
  /// A whole number that 32 bits hold, 5.0 among them.
  std::optional<int32_t> Int32(const std::string& name);
  /// Of 64 bits; a negative one wraps around.
  std::optional<uint64_t> Seed(const std::string& name);
  std::optional<double> Number(const std::string& name);
  std::optional<std::string> String(const std::string& name);
  std::optional<std::vector<int32_t>> Int32s(const std::string& name);
  /// For what has a shape of its own; null when absent.
  const nlohmann::json* Any(const std::string& name);

  /// Notes an error of the field.
  void Fail(const std::string& name, std::string_view message);

  /// The first error; or a field that nobody has asked for, with names that it may be meant for.
  absl::Status Finish() const;

 private:
  const nlohmann::json& object_;
  const std::string where_;
  std::set<std::string, std::less<>> known_;
  absl::Status error_;
};

/// A whole number that 32 bits hold.
std::optional<int32_t> AsInt32(const nlohmann::json& value);

/// All of a list of such; nullopt when one is not.
std::optional<std::vector<int32_t>> AsInt32s(const nlohmann::json& list);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_HTTP_JSON_BODY_H_
