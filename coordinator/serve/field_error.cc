// The field travels as a payload of the status.
#include "coordinator/serve/field_error.h"

#include "absl/strings/cord.h"

namespace lockstep::coordinator {
namespace {

constexpr char kPayload[] = "lockstep.v1/field";

}  // namespace

absl::Status FieldError(absl::StatusCode code, std::string_view field, std::string_view message) {
  absl::Status status(code, {message.data(), message.size()});
  status.SetPayload(kPayload, absl::Cord(absl::string_view(field.data(), field.size())));
  return status;
}

std::optional<std::string> FieldOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kPayload);
  if (!payload.has_value()) return std::nullopt;
  return std::string(*payload);
}

}  // namespace lockstep::coordinator
