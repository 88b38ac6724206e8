// Listens for HTTP and gives every connection its session.
#ifndef LOCKSTEP_COORDINATOR_HTTP_HTTP_SERVER_H_
#define LOCKSTEP_COORDINATOR_HTTP_HTTP_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "coordinator/http/http_message.h"
#include "coordinator/http/http_session.h"

namespace lockstep::coordinator {

/// Two threads for sockets and two for `handler`, which outlives nothing: Stop waits for both.
class HttpServer {
 public:
  /// Listens on `host` (a name, or an address, an IPv6 one with or without brackets) and `port`, 0
  /// for a free one. InvalidArgument when the address cannot be had. Raises the process's limit of
  /// open files to what the system allows, since every connection is one.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const std::string& host, int port,
                                                           HttpHandler handler,
                                                           const HttpLimits& limits = {});
  /// Stops.
  virtual ~HttpServer() = default;
  virtual int port() const = 0;
  /// Takes no more connections, gives responses that are being written half a second, and closes
  /// the rest. Idempotent.
  virtual void Stop() = 0;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_HTTP_HTTP_SERVER_H_
