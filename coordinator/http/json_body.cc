// A SAX filter in front of nlohmann's own DOM builder keeps the bounds.
#include "coordinator/http/json_body.h"

#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "coordinator/http/api_error.h"
#include "model/near_names.h"

namespace lockstep::coordinator {
namespace {

using Json = nlohmann::json;

constexpr int kMostNesting = 64;
constexpr int64_t kMostValues = 2'000'000;
constexpr size_t kMostShownBytes = 200;

/// Builds a value, and gives up where it becomes too deep or too large.
class BoundedBuilder {
 public:
  explicit BoundedBuilder(Json& result) : builder_(result, /*allow_exceptions=*/false) {}

  const std::string& error() const { return error_; }

  bool null() { return Count() && builder_.null(); }
  bool boolean(bool value) { return Count() && builder_.boolean(value); }
  bool number_integer(Json::number_integer_t value) {
    return Count() && builder_.number_integer(value);
  }
  bool number_unsigned(Json::number_unsigned_t value) {
    return Count() && builder_.number_unsigned(value);
  }
  bool number_float(Json::number_float_t value, const Json::string_t& text) {
    return Count() && builder_.number_float(value, text);
  }
  bool string(Json::string_t& value) { return Count() && builder_.string(value); }
  bool binary(Json::binary_t& value) { return Count() && builder_.binary(value); }
  bool start_object(size_t size) { return Enter() && builder_.start_object(size); }
  bool key(Json::string_t& value) { return builder_.key(value); }
  bool end_object() { return --depth_ >= 0 && builder_.end_object(); }
  bool start_array(size_t size) { return Enter() && builder_.start_array(size); }
  bool end_array() { return --depth_ >= 0 && builder_.end_array(); }

  template <typename Exception>
  bool parse_error(size_t position, const std::string& /*token*/, const Exception& error) {
    // "[json.exception.parse_error.101] parse error at line 1, column 5: ...": the rest is for us.
    const std::string_view words = error.what();
    const size_t end = words.find("] ");
    error_ =
        end == std::string_view::npos
            ? absl::StrCat("malformed JSON at byte ", position)
            : absl::StrCat("malformed JSON: ", std::string(words.substr(end + 2, kMostShownBytes)));
    return false;
  }

 private:
  bool Count() {
    if (++values_ <= kMostValues) return true;
    error_ = absl::StrCat("the JSON has more than ", kMostValues, " values");
    return false;
  }
  bool Enter() {
    if (++depth_ > kMostNesting) {
      error_ = absl::StrCat("the JSON is nested deeper than ", kMostNesting);
      return false;
    }
    return Count();
  }

  nlohmann::detail::json_sax_dom_parser<Json> builder_;
  int depth_ = 0;
  int64_t values_ = 0;
  std::string error_;
};

}  // namespace

absl::StatusOr<Json> ParseJsonObject(std::string_view body) {
  Json object;
  BoundedBuilder builder(object);
  if (!Json::sax_parse(body, &builder)) {
    return absl::InvalidArgumentError(builder.error().empty() ? "malformed JSON" : builder.error());
  }
  if (!object.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the body is JSON of type ", object.type_name(), ", but must be an object"));
  }
  return object;
}

std::optional<int32_t> AsInt32(const Json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number > std::numeric_limits<int32_t>::max()) return std::nullopt;
    return static_cast<int32_t>(number);
  }
  if (!value.is_number()) return std::nullopt;
  const auto number = value.get<double>();
  if (!(std::abs(number) <= std::numeric_limits<int32_t>::max()) || number != std::floor(number)) {
    return std::nullopt;
  }
  return static_cast<int32_t>(number);
}

std::optional<std::vector<int32_t>> AsInt32s(const Json& list) {
  if (!list.is_array()) return std::nullopt;
  std::vector<int32_t> numbers;
  numbers.reserve(list.size());
  for (const Json& entry : list) {
    const std::optional<int32_t> number = AsInt32(entry);
    if (!number) return std::nullopt;
    numbers.push_back(*number);
  }
  return numbers;
}

FieldReader::FieldReader(const Json& object, std::string where)
    : object_(object), where_(std::move(where)) {}

const Json* FieldReader::Any(const std::string& name) {
  known_.insert(name);
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::optional<bool> FieldReader::Bool(const std::string& name) {
  const Json* value = Any(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_boolean()) return value->get<bool>();
  Fail(name, absl::StrCat("must be true or false, and is of type ", value->type_name()));
  return std::nullopt;
}

std::optional<int32_t> FieldReader::Int32(const std::string& name) {
  const Json* value = Any(name);
  if (value == nullptr) return std::nullopt;
  const std::optional<int32_t> number = AsInt32(*value);
  if (!number) {
    Fail(name, absl::StrCat("must be a whole number of 32 bits, and is ",
                            value->is_number() ? value->dump() : value->type_name()));
  }
  return number;
}

std::optional<uint64_t> FieldReader::Seed(const std::string& name) {
  const Json* value = Any(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_number_unsigned()) return value->get<uint64_t>();
  if (value->is_number_integer()) return static_cast<uint64_t>(value->get<int64_t>());
  Fail(name, absl::StrCat("must be a whole number of 64 bits, and is ",
                          value->is_number() ? value->dump() : value->type_name()));
  return std::nullopt;
}

std::optional<double> FieldReader::Number(const std::string& name) {
  const Json* value = Any(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_number()) return value->get<double>();
  Fail(name, absl::StrCat("must be a number, and is of type ", value->type_name()));
  return std::nullopt;
}

std::optional<std::string> FieldReader::String(const std::string& name) {
  const Json* value = Any(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return value->get<std::string>();
  Fail(name, absl::StrCat("must be a string, and is of type ", value->type_name()));
  return std::nullopt;
}

std::optional<std::vector<int32_t>> FieldReader::Int32s(const std::string& name) {
  const Json* value = Any(name);
  if (value == nullptr) return std::nullopt;
  std::optional<std::vector<int32_t>> numbers = AsInt32s(*value);
  if (!numbers) Fail(name, "must be a list of whole numbers of 32 bits");
  return numbers;
}

void FieldReader::Fail(const std::string& name, std::string_view message) {
  if (!error_.ok()) return;
  error_ = BadField(where_ + name, absl::StrCat(where_, name, " ", std::string(message)));
}

absl::Status FieldReader::Finish() const {
  if (!error_.ok()) return error_;
  for (const auto& [name, value] : object_.items()) {
    if (known_.contains(name) || value.is_null()) continue;
    const std::string shown = where_ + name.substr(0, kMostShownBytes);
    const std::vector<std::string> near = model::NearNames(
        name.substr(0, kMostShownBytes), std::vector<std::string>(known_.begin(), known_.end()));
    return BadField(shown, absl::StrCat(shown, " is not supported by this server",
                                        near.empty() ? "" : "; is it meant to be ",
                                        absl::StrJoin(near, " or "), near.empty() ? "" : "?"));
  }
  return absl::OkStatus();
}

}  // namespace lockstep::coordinator
