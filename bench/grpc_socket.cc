// Frames out, frames in; the numbers are those of RFC 9113 (frames) and RFC 7541 (header fields).
#include "bench/grpc_socket.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "base/status_macros.h"

namespace lockstep::bench {
namespace {

constexpr size_t kFrameHeaderBytes = 9;
constexpr size_t kMessageHeaderBytes = 5;
constexpr uint8_t kData = 0, kHeaders = 1, kReset = 3, kSettings = 4, kPing = 6, kGoAway = 7,
                  kWindowUpdate = 8;
constexpr uint8_t kAck = 1, kEndStream = 1, kEndHeaders = 4;
constexpr uint32_t kLargestWindow = 0x7fffffff;
constexpr uint32_t kFirstWindow = 65535;

std::string BigEndian(uint32_t value, int bytes) {
  std::string out;
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) {
    out.push_back(static_cast<char>(value >> shift));
  }
  return out;
}

uint32_t ReadBigEndian(std::string_view bytes) {
  uint32_t value = 0;
  for (char byte : bytes) value = value << 8 | static_cast<uint8_t>(byte);
  return value;
}

std::string Frame(uint8_t type, uint8_t flags, uint32_t stream, std::string_view payload) {
  std::string frame = BigEndian(static_cast<uint32_t>(payload.size()), 3);
  frame.push_back(static_cast<char>(type));
  frame.push_back(static_cast<char>(flags));
  return frame + BigEndian(stream, 4) + std::string(payload);
}

// A string literal of less than 127 bytes, without Huffman coding.
std::string Literal(std::string_view text) {
  return static_cast<char>(text.size()) + std::string(text);
}

std::string RequestHeaders(std::string_view method) {
  std::string block = "\x83\x86";                     // :method POST, :scheme http
  block += '\x04' + Literal(method);                  // :path
  block += '\x01' + Literal("bench");                 // :authority
  block += "\x0f\x10" + Literal("application/grpc");  // content-type
  block += std::string(1, '\0') + Literal("te") + Literal("trailers");
  return block;
}

std::string Greeting() {
  constexpr uint16_t kEnablePush = 2, kInitialWindowSize = 4;
  const std::string settings = BigEndian(kEnablePush, 2) + BigEndian(0, 4) +
                               BigEndian(kInitialWindowSize, 2) + BigEndian(kLargestWindow, 4);
  return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(kSettings, 0, 0, settings) +
         Frame(kWindowUpdate, 0, 0, BigEndian(kLargestWindow - kFirstWindow, 4));
}

}  // namespace

absl::StatusOr<GrpcSocket> GrpcSocket::Connect(const std::string& address) {
  const size_t colon = address.rfind(':');
  sockaddr_in to{.sin_family = AF_INET,
                 .sin_port = htons(static_cast<uint16_t>(std::atoi(address.c_str() + colon + 1)))};
  if (inet_pton(AF_INET, address.substr(0, colon).c_str(), &to.sin_addr) != 1) {
    return absl::InvalidArgumentError(address + " is not of the form 127.0.0.1:50051");
  }
  GrpcSocket socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(socket.fd_, reinterpret_cast<sockaddr*>(&to), sizeof(to)) != 0) {
    return absl::ErrnoToStatus(errno, "connect to " + address);
  }
  const int on = 1;
  setsockopt(socket.fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  LOCKSTEP_RETURN_IF_ERROR(socket.Send(Greeting()));
  return socket;
}

GrpcSocket::GrpcSocket(GrpcSocket&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      next_stream_(other.next_stream_),
      input_(std::move(other.input_)),
      message_(std::move(other.message_)) {}

GrpcSocket::~GrpcSocket() {
  if (fd_ >= 0) close(fd_);
}

absl::Status GrpcSocket::Call(std::string_view method, std::string_view request) {
  const uint32_t stream = next_stream_;
  next_stream_ += 2;
  message_.clear();
  const std::string message = std::string(1, '\0') +
                              BigEndian(static_cast<uint32_t>(request.size()), 4) +
                              std::string(request);
  return Send(Frame(kHeaders, kEndHeaders, stream, RequestHeaders(method)) +
              Frame(kData, kEndStream, stream, message));
}

absl::Status GrpcSocket::Send(std::string_view bytes) {
  // Little is ever sent, and the other side reads it at once: the call does not block.
  if (send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size())) {
    return absl::OkStatus();
  }
  return absl::ErrnoToStatus(errno, "send");
}

absl::StatusOr<bool> GrpcSocket::Read(const OnMessage& on_message) {
  std::array<char, 65536> buffer;
  const ssize_t count = recv(fd_, buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (count <= 0) return absl::UnavailableError("the server has closed the connection");
  input_.append(buffer.data(), static_cast<size_t>(count));
  bool ended = false;
  std::string_view rest = input_;
  while (rest.size() >= kFrameHeaderBytes) {
    const size_t length = ReadBigEndian(rest.substr(0, 3));
    if (rest.size() < kFrameHeaderBytes + length) break;
    LOCKSTEP_ASSIGN_OR_RETURN(
        const bool ends, TakeFrame(static_cast<uint8_t>(rest[3]), static_cast<uint8_t>(rest[4]),
                                   ReadBigEndian(rest.substr(5, 4)),
                                   rest.substr(kFrameHeaderBytes, length), on_message));
    ended |= ends;
    rest.remove_prefix(kFrameHeaderBytes + length);
  }
  input_.erase(0, input_.size() - rest.size());
  return ended;
}

absl::StatusOr<bool> GrpcSocket::TakeFrame(uint8_t type, uint8_t flags, uint32_t stream,
                                           std::string_view payload, const OnMessage& on_message) {
  const bool answers_call = stream + 2 == next_stream_;
  switch (type) {
    case kSettings:
      if ((flags & kAck) == 0) LOCKSTEP_RETURN_IF_ERROR(Send(Frame(kSettings, kAck, 0, "")));
      return false;
    case kPing:
      if ((flags & kAck) == 0) LOCKSTEP_RETURN_IF_ERROR(Send(Frame(kPing, kAck, 0, payload)));
      return false;
    case kData:
      if (answers_call) TakeData(payload, on_message);
      return answers_call && (flags & kEndStream) != 0;
    case kHeaders:
      return answers_call && (flags & kEndStream) != 0;
    case kReset:
      return answers_call;
    case kGoAway:
      return absl::UnavailableError("the server sends everyone away");
    default:
      return false;
  }
}

void GrpcSocket::TakeData(std::string_view payload, const OnMessage& on_message) {
  message_.append(payload);
  std::string_view rest = message_;
  while (rest.size() >= kMessageHeaderBytes) {
    const size_t length = ReadBigEndian(rest.substr(1, 4));
    if (rest.size() < kMessageHeaderBytes + length) break;
    on_message(rest.substr(kMessageHeaderBytes, length));
    rest.remove_prefix(kMessageHeaderBytes + length);
  }
  message_.erase(0, message_.size() - rest.size());
}

}  // namespace lockstep::bench
