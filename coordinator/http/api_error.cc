// Types and codes are those that OpenAI's clients tell their exceptions by.
#include "coordinator/http/api_error.h"

#include <optional>

#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "coordinator/serve/field_error.h"
#include "nlohmann/json.hpp"

namespace lockstep::coordinator {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kRetryAfterSeconds[] = "1";

struct Kind {
  int http_status;
  const char* type;
  const char* code;  // null for none
};

Kind KindOf(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
      return {400, "invalid_request_error", nullptr};
    case absl::StatusCode::kOutOfRange:
      return {400, "invalid_request_error", "context_length_exceeded"};
    case absl::StatusCode::kNotFound:
      return {404, "invalid_request_error", "model_not_found"};
    case absl::StatusCode::kResourceExhausted:
      return {429, "rate_limit_error", "rate_limit_exceeded"};
    case absl::StatusCode::kUnavailable:
      return {503, "server_error", "service_unavailable"};
    case absl::StatusCode::kDeadlineExceeded:
      return {504, "server_error", "deadline_exceeded"};
    default:
      return {500, "server_error", nullptr};
  }
}

std::string Body(std::string_view message, const Kind& kind,
                 const std::optional<std::string>& param) {
  Json error;
  error["message"] = message;
  error["type"] = kind.type;
  error["param"] = param ? Json(*param) : Json(nullptr);
  error["code"] = kind.code != nullptr ? Json(kind.code) : Json(nullptr);
  return Json{{"error", error}}.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// The canonical request groups some fields that HTTP has side by side.
constexpr char kGroup[] = "sampling.";

}  // namespace

absl::Status BadField(std::string_view field, std::string_view message) {
  return FieldError(absl::StatusCode::kInvalidArgument, field, message);
}

int HttpStatusOf(const absl::Status& status) { return KindOf(status.code()).http_status; }

std::string ErrorBody(const absl::Status& status) {
  std::string message(status.message());
  std::optional<std::string> param = FieldOf(status);
  if (param && param->starts_with(kGroup)) {
    message = absl::StrReplaceAll(message, {{kGroup, ""}});
    param = std::string(absl::StripPrefix(*param, kGroup));
  }
  return Body(message, KindOf(status.code()), param);
}

HttpResponse ErrorResponse(const absl::Status& status) {
  HttpResponse response{.head = {.status = HttpStatusOf(status)}, .body = ErrorBody(status)};
  if (response.head.status == 429 || response.head.status == 503) {
    response.head.headers.emplace_back("Retry-After", kRetryAfterSeconds);
  }
  return response;
}

HttpResponse HttpErrorResponse(int status, std::string_view message) {
  const Kind kind{status, "invalid_request_error", nullptr};
  return {.head = {.status = status}, .body = Body(message, kind, std::nullopt)};
}

}  // namespace lockstep::coordinator
