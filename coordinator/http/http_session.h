// One connection: reads requests one after the other, has them answered, and writes the responses.
#ifndef LOCKSTEP_COORDINATOR_HTTP_HTTP_SESSION_H_
#define LOCKSTEP_COORDINATOR_HTTP_HTTP_SESSION_H_

#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "coordinator/http/http_message.h"

namespace lockstep::coordinator {

struct HttpLimits {
  uint32_t header_bytes = 16 << 10;          // more is 431
  int64_t body_bytes = 64 << 20;             // more is 413
  int64_t all_bodies_bytes = 512 << 20;      // of all requests being read or parsed; more is 503
  int connections = 4096;                    // more are answered 503
  std::chrono::milliseconds idle{75'000};    // between two requests
  std::chrono::milliseconds header{10'000};  // from its first byte to its last; then 408
  std::chrono::milliseconds body{120'000};   // the same
  std::chrono::milliseconds write{300'000};  // of one part; then the connection is closed
};

/// What the sessions of a server share. Outlives them.
struct HttpSessionContext {
  HttpHandler handler;
  HttpLimits limits;
  boost::asio::thread_pool* handlers = nullptr;  // runs `handler`
  std::atomic<int> connections{0};
  std::atomic<int> busy{0};  // with a request in hand or a response not yet written
  std::atomic<int64_t> body_bytes{0};
};

/// Lives as long as something is under way on its socket. All of it runs in the socket's executor,
/// a strand; Start may be called from any thread.
///
/// While a request is answered the socket is watched: a client that closes it has gone, and its
/// work ends. (A client that only ends its own side counts as gone too, as it does with other
/// servers.)
class HttpSession final : public std::enable_shared_from_this<HttpSession> {
 public:
  HttpSession(boost::asio::ip::tcp::socket socket, HttpSessionContext& context);
  ~HttpSession();
  HttpSession(const HttpSession&) = delete;
  HttpSession& operator=(const HttpSession&) = delete;

  void Start();

 private:
  using ErrorCode = boost::system::error_code;
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;

  void AwaitRequest();
  void ReadHeader();
  void OnHeader(ErrorCode error);
  void ReadBody();
  void OnBody(ErrorCode error);
  /// Whether the bytes that the request announces may be read now.
  bool ReserveBody();
  void ReleaseBody();
  /// Says what was wrong with a request, if there is anything to say, and closes.
  void OnReadError(ErrorCode error);

  void HandleRequest();
  void OnAnswer(HttpAnswer answer);
  void WatchClient();
  void Pump();
  void WriteWhole(const HttpResponse& response);
  void WritePart(ResponsePart part);
  void Write(bool last);
  void OnWritten(ErrorCode error, bool last);
  void FinishResponse();
  void RefuseAndClose(int status, const std::string& message);
  /// Lets the client read the response before its unread bytes reset the connection.
  void Linger();
  void Drain();
  void Abort();

  /// Calls `on_timeout` unless Disarm or another Arm comes first.
  void Arm(std::chrono::milliseconds timeout, void (HttpSession::*on_timeout)());
  void Disarm();
  void SetBusy(bool busy);
  void OnReadTimeout();

  boost::asio::ip::tcp::socket socket_;
  HttpSessionContext& context_;
  boost::asio::steady_timer timer_;
  uint64_t timer_round_ = 0;
  boost::beast::flat_buffer buffer_;
  std::optional<Parser> parser_;
  int64_t reserved_bytes_ = 0;
  bool timed_out_ = false;

  // Of the response.
  bool keep_alive_ = false;
  bool http_1_0_ = false;
  bool chunked_ = false;
  uint64_t watch_round_ = 0;
  std::shared_ptr<PendingResponse> pending_;
  std::string out_;
  bool busy_ = false;
  bool writing_ = false;
  bool closed_ = false;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_HTTP_HTTP_SESSION_H_
