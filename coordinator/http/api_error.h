// Refusals in the shape that OpenAI's API gives them: {"error": {message, type, param, code}}.
// Pure.
#ifndef LOCKSTEP_COORDINATOR_HTTP_API_ERROR_H_
#define LOCKSTEP_COORDINATOR_HTTP_API_ERROR_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "coordinator/http/http_message.h"

namespace lockstep::coordinator {

/// InvalidArgument that names `field`, for what no other room checks.
absl::Status BadField(std::string_view field, std::string_view message);

/// The HTTP status for an error: 400 for what the client got wrong and for a request that is too
/// long, 404, 429, 503, 504; 500 for the rest. `status` is not OK.
int HttpStatusOf(const absl::Status& status);

/// The JSON object, without an end of line. `param` is the error's field, in the words of the HTTP
/// API (without "sampling.").
std::string ErrorBody(const absl::Status& status);

/// Both, with Retry-After where a later try may succeed.
HttpResponse ErrorResponse(const absl::Status& status);

/// For errors that HTTP alone has: 404, 405, 408, 413, 415, 431.
HttpResponse HttpErrorResponse(int status, std::string_view message);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_HTTP_API_ERROR_H_
