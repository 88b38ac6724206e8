// A gRPC client reduced to what a load generator needs: one TCP connection, one server-streaming
// call at a time, at the price of a recv() per message. A full client costs as much per message as
// the server that is to be measured.
#ifndef LOCKSTEP_BENCH_GRPC_SOCKET_H_
#define LOCKSTEP_BENCH_GRPC_SOCKET_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lockstep::bench {

/// HTTP/2 (RFC 9113) without flow control of its own: it grants the largest windows at once. Not
/// thread-safe.
class GrpcSocket {
 public:
  /// Gets each message, valid during the call.
  using OnMessage = std::function<void(std::string_view message)>;

  /// Connects to a numeric "HOST:PORT".
  static absl::StatusOr<GrpcSocket> Connect(const std::string& address);
  GrpcSocket(GrpcSocket&& other) noexcept;
  GrpcSocket(const GrpcSocket&) = delete;
  GrpcSocket& operator=(const GrpcSocket&) = delete;
  ~GrpcSocket();

  /// To wait on for input; non-blocking.
  int fd() const { return fd_; }

  /// Starts a call of "/package.Service/Method" with one request. No other may be under way.
  absl::Status Call(std::string_view method, std::string_view request);

  /// Reads what is there. True when the call has ended, well or not; the reader of the messages
  /// knows which was to be the last. Unavailable when the connection is gone.
  absl::StatusOr<bool> Read(const OnMessage& on_message);

 private:
  explicit GrpcSocket(int fd) : fd_(fd) {}
  absl::Status Send(std::string_view bytes);
  // One whole frame; true if it ends the call.
  absl::StatusOr<bool> TakeFrame(uint8_t type, uint8_t flags, uint32_t stream,
                                 std::string_view payload, const OnMessage& on_message);
  void TakeData(std::string_view payload, const OnMessage& on_message);

  int fd_;
  uint32_t next_stream_ = 1;
  std::string input_;    // an incomplete frame
  std::string message_;  // an incomplete message
};

}  // namespace lockstep::bench

#endif  // LOCKSTEP_BENCH_GRPC_SOCKET_H_
