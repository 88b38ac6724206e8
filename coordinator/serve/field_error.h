// Refusals that name the field of the request that is at fault, for a front that shows the name
// apart from the words.
#ifndef LOCKSTEP_COORDINATOR_SERVE_FIELD_ERROR_H_
#define LOCKSTEP_COORDINATOR_SERVE_FIELD_ERROR_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace lockstep::coordinator {

/// A status of `code` with `message`, which names `field` itself; FieldOf tells it again.
absl::Status FieldError(absl::StatusCode code, std::string_view field, std::string_view message);

/// The field of a FieldError; nullopt for any other status.
std::optional<std::string> FieldOf(const absl::Status& status);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_SERVE_FIELD_ERROR_H_
