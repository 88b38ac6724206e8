// Which call a path is, and the calls that need no generation.
#ifndef LOCKSTEP_COORDINATOR_HTTP_ROUTES_H_
#define LOCKSTEP_COORDINATOR_HTTP_ROUTES_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/http/http_message.h"
#include "coordinator/http/openai_response.h"
#include "coordinator/serve/serving_context.h"

namespace lockstep::coordinator {

/// Why nothing can be served now, in words; nullopt while it can.
using NotServing = std::function<std::optional<std::string>()>;

/// Thread-safe.
class Routes {
 public:
  /// What `context` refers to must outlive the routes and their answers.
  Routes(const ServingContext& context, NotServing not_serving);

  HttpAnswer Answer(const HttpRequest& request) const;

 private:
  using Call = absl::StatusOr<HttpAnswer> (Routes::*)(const HttpRequest&) const;
  struct Route {
    const char* method;
    const char* path;
    Call call;
  };
  static const Route kRoutes[];

  absl::StatusOr<HttpAnswer> Completions(const HttpRequest& request) const;
  absl::StatusOr<HttpAnswer> Chat(const HttpRequest& request) const;
  absl::StatusOr<HttpAnswer> Tokenize(const HttpRequest& request) const;
  absl::StatusOr<HttpAnswer> Detokenize(const HttpRequest& request) const;
  absl::StatusOr<HttpAnswer> Models(const HttpRequest& request) const;
  absl::StatusOr<HttpAnswer> Model(std::string_view name) const;
  absl::StatusOr<HttpAnswer> Health(const HttpRequest& request) const;
  absl::StatusOr<HttpAnswer> Version(const HttpRequest& request) const;

  /// NotFound unless `name`, or an empty one, is served.
  absl::Status CheckModel(std::string_view name) const;
  /// Unavailable, with the reason, while there is no group.
  absl::Status CheckServing() const;
  OrderedJson ModelObject(const std::string& name) const;
  ResponseIdentity NewIdentity(std::string_view prefix) const;

  const ServingContext context_;
  const NotServing not_serving_;
  const int64_t started_;  // seconds since 1970
  // Makes ids unique: a random part per process, then a count.
  const uint64_t process_;
  mutable std::atomic<uint64_t> responses_{0};
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_HTTP_ROUTES_H_
