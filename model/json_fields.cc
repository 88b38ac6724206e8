// A first SAX pass finds syntax errors, duplicate keys and absurd nesting; only then is a tree
// built, so that the tree's parser has nothing left to complain about.
#include "model/json_fields.h"

#include <cmath>
#include <unordered_set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace lockstep::model {
namespace {

using nlohmann::json;

constexpr size_t kMaxDepth = 64;
constexpr size_t kMaxQuoted = 200;

absl::string_view Absl(std::string_view text) { return {text.data(), text.size()}; }

/// Stops at the first problem and keeps its description.
class JsonChecker : public nlohmann::json_sax<json> {
 public:
  const std::string& problem() const { return problem_; }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(size_t) override { return Open(); }
  bool end_object() override { return Close(); }
  bool start_array(size_t) override { return Open(); }
  bool end_array() override { return Close(); }

  bool key(string_t& key) override {
    if (open_.back().insert(key).second) return true;
    problem_ = absl::StrCat("the key \"", Printable(key), "\" stands twice in one object");
    return false;
  }

  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) override {
    problem_ = Printable(error.what());
    return false;
  }

 private:
  bool Open() {
    open_.emplace_back();
    if (open_.size() <= kMaxDepth) return true;
    problem_ = absl::StrCat("nested deeper than ", kMaxDepth, " levels");
    return false;
  }
  bool Close() {
    open_.pop_back();
    return true;
  }

  std::vector<std::unordered_set<std::string>> open_;  // keys seen, per open object or array
  std::string problem_;
};

/// A value for a message: short, printable, whatever it holds.
std::string Quoted(const json& value) {
  return Printable(value.dump(-1, ' ', false, json::error_handler_t::replace));
}

}  // namespace

std::string Printable(std::string_view text) {
  std::string shown(text.substr(0, kMaxQuoted));
  for (char& c : shown) {
    if (c < ' ' || c > '~') c = '?';
  }
  if (text.size() > kMaxQuoted) shown += "...";
  return shown;
}

absl::StatusOr<json> ParseJsonObject(std::string_view text, std::string_view what) {
  JsonChecker checker;
  if (!json::sax_parse(text, &checker)) {
    return absl::InvalidArgumentError(
        absl::StrCat(Absl(what), " is not well-formed JSON: ", checker.problem()));
  }
  json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(Absl(what), " must hold a JSON object, but holds: ", Quoted(parsed)));
  }
  return parsed;
}

absl::StatusOr<int64_t> IntegerIn(const json& value, const std::string& label, int64_t min,
                                  int64_t max) {
  bool fits = value.is_number_unsigned() ? value.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX)
                                         : value.is_number_integer();
  if (fits) {
    int64_t number = value.get<int64_t>();
    if (number >= min && number <= max) return number;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      label, " is ", Quoted(value), ", but must be an integer from ", min, " to ", max));
}

JsonFields::JsonFields(const json& object, std::string where)
    : object_(&object), where_(std::move(where)) {}

const json* JsonFields::Find(std::string_view key) const {
  auto found = object_->find(key);
  return found == object_->end() || found->is_null() ? nullptr : &*found;
}

absl::Status JsonFields::Error(std::string_view key, std::string_view problem) const {
  return absl::InvalidArgumentError(absl::StrCat(where_, ": ", Absl(key), ": ", Absl(problem)));
}

absl::StatusOr<std::optional<int64_t>> JsonFields::OptionalInt(std::string_view key, int64_t min,
                                                               int64_t max) const {
  const json* value = Find(key);
  if (value == nullptr) return std::optional<int64_t>();
  std::string label = absl::StrCat(where_, ": ", Absl(key));
  LOCKSTEP_ASSIGN_OR_RETURN(int64_t number, IntegerIn(*value, label, min, max));
  return std::optional<int64_t>(number);
}

absl::StatusOr<int64_t> JsonFields::Int(std::string_view key, int64_t min, int64_t max) const {
  LOCKSTEP_ASSIGN_OR_RETURN(std::optional<int64_t> value, OptionalInt(key, min, max));
  if (value.has_value()) return *value;
  return Error(key, absl::StrCat("missing; an integer from ", min, " to ", max, " is needed"));
}

absl::StatusOr<std::optional<double>> JsonFields::OptionalNumber(std::string_view key, double min,
                                                                 double max) const {
  const json* value = Find(key);
  if (value == nullptr) return std::optional<double>();
  if (value->is_number()) {
    double number = value->get<double>();
    if (std::isfinite(number) && number >= min && number <= max) {
      return std::optional<double>(number);
    }
  }
  return Error(
      key, absl::StrCat("is ", Quoted(*value), ", but must be a number from ", min, " to ", max));
}

absl::StatusOr<double> JsonFields::Number(std::string_view key, double min, double max) const {
  LOCKSTEP_ASSIGN_OR_RETURN(std::optional<double> value, OptionalNumber(key, min, max));
  if (value.has_value()) return *value;
  return Error(key, absl::StrCat("missing; a number from ", min, " to ", max, " is needed"));
}

absl::StatusOr<bool> JsonFields::BoolOr(std::string_view key, bool fallback) const {
  const json* value = Find(key);
  if (value == nullptr) return fallback;
  if (value->is_boolean()) return value->get<bool>();
  return Error(key, absl::StrCat("is ", Quoted(*value), ", but must be true or false"));
}

absl::StatusOr<std::optional<std::string>> JsonFields::OptionalString(std::string_view key) const {
  const json* value = Find(key);
  if (value == nullptr) return std::optional<std::string>();
  if (value->is_string()) return std::optional<std::string>(value->get<std::string>());
  return Error(key, absl::StrCat("is ", Quoted(*value), ", but must be a string"));
}

absl::StatusOr<JsonFields> JsonFields::Object(std::string_view key) const {
  const json* value = Find(key);
  if (value == nullptr) return Error(key, "missing; an object is needed");
  if (value->is_object()) return JsonFields(*value, absl::StrCat(where_, ": ", Absl(key)));
  return Error(key, absl::StrCat("is ", Quoted(*value), ", but must be an object"));
}

}  // namespace lockstep::model
