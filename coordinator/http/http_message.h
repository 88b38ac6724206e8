// What a session and the routes exchange: a request as a whole, a response as a whole or in parts.
// Plain data and one interface; nothing knows sockets or models.
#ifndef LOCKSTEP_COORDINATOR_HTTP_HTTP_MESSAGE_H_
#define LOCKSTEP_COORDINATOR_HTTP_HTTP_MESSAGE_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace lockstep::coordinator {

struct HttpRequest {
  std::string method;        // "GET"
  std::string path;          // as sent, without the query
  std::string content_type;  // empty if there is none
  std::string body;
};

struct HttpHead {
  int status = 200;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;  // further ones
};

struct HttpResponse {
  HttpHead head;
  std::string body;
};

/// A piece of a response.
struct ResponsePart {
  std::optional<HttpHead> head;  // of the first part, and of no other
  std::string body;
  bool last = false;
};

/// A response that comes to be while the session sends it. Parts are pulled, so that what a slow
/// reader has not taken gathers here, in as little room as the maker can manage.
class PendingResponse {
 public:
  virtual ~PendingResponse() = default;
  /// Once, before all else. `wake` says that Next may have a part now; it may be called from any
  /// thread and under any lock, and does not call back.
  virtual void OnReady(std::function<void()> wake) = 0;
  /// The next part; nullopt while there is none. Not called again after the last.
  virtual std::optional<ResponsePart> Next() = 0;
  /// No part is wanted any more: sent whole, or the client has gone. Ends the work behind it. The
  /// last call, and the only one that may come from another thread than Next.
  virtual void Close() = 0;
};

using HttpAnswer = std::variant<HttpResponse, std::shared_ptr<PendingResponse>>;

/// Answers a request; called from several threads at once, and may take its time.
using HttpHandler = std::function<HttpAnswer(const HttpRequest&)>;

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_HTTP_HTTP_MESSAGE_H_
