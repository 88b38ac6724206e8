// See tcp_socket.h.
#include "worker/collective/tcp_socket.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace lockstep::worker {
namespace {

/// After this time without an answer to data or probes the network counts as cut. A peer that
/// computes and does not read for as long also counts, so it exceeds the longest step by far.
constexpr int kUserTimeoutMs = 60'000;
constexpr int kKeepaliveIdleS = 5;
constexpr int kKeepaliveIntervalS = 5;
constexpr size_t kMaxLine = 1024;

using AddressInfo = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

absl::StatusOr<AddressInfo> Resolve(const std::string& address, uint16_t port) {
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  int error = getaddrinfo(address.c_str(), absl::StrCat(port).c_str(), &hints, &found);
  if (error != 0) {
    return absl::InvalidArgumentError(absl::StrCat("\"", address, "\" is no numeric IP address (",
                                                   gai_strerror(error),
                                                   "); legal are such as 10.0.0.1 and fd00::1"));
  }
  return AddressInfo(found, &freeaddrinfo);
}

bool IsWildcard(const addrinfo& info) {
  if (info.ai_family == AF_INET) {
    return reinterpret_cast<const sockaddr_in*>(info.ai_addr)->sin_addr.s_addr == INADDR_ANY;
  }
  return IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<const sockaddr_in6*>(info.ai_addr)->sin6_addr);
}

void SetOption(int fd, int level, int option, int value) {
  setsockopt(fd, level, option, &value, sizeof(value));
}

/// None of these is vital: a kernel that refuses one still carries the data.
void SetDataOptions(int fd) {
  SetOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  SetOption(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, kUserTimeoutMs);
  SetOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, kKeepaliveIdleS);
  SetOption(fd, IPPROTO_TCP, TCP_KEEPINTVL, kKeepaliveIntervalS);
}

/// Unavailable if nobody listens there; any other failure may pass.
absl::Status DialError(int error) {
  std::string reason = std::generic_category().message(error);
  return error == ECONNREFUSED ? absl::UnavailableError(reason)
                               : absl::FailedPreconditionError(reason);
}

absl::Status Errno(const std::string& what) { return absl::ErrnoToStatus(errno, what); }

}  // namespace

absl::StatusOr<UniqueFd> ListenTcp(const std::string& address) {
  LOCKSTEP_ASSIGN_OR_RETURN(AddressInfo info, Resolve(address, 0));
  if (IsWildcard(*info)) {
    return absl::InvalidArgumentError(absl::StrCat(
        address, " stands for every interface; name the address by which peers reach this one"));
  }
  UniqueFd fd(socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return Errno("cannot make a TCP socket");
  if (bind(fd.get(), info->ai_addr, info->ai_addrlen) != 0 || listen(fd.get(), SOMAXCONN) != 0) {
    return Errno(absl::StrCat("cannot listen on ", address));
  }
  return fd;
}

absl::StatusOr<uint16_t> PortOf(const UniqueFd& listener) {
  sockaddr_storage address = {};
  socklen_t length = sizeof(address);
  if (getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return Errno("getsockname");
  }
  if (address.ss_family == AF_INET) {
    return ntohs(reinterpret_cast<const sockaddr_in*>(&address)->sin_port);
  }
  return ntohs(reinterpret_cast<const sockaddr_in6*>(&address)->sin6_port);
}

absl::StatusOr<UniqueFd> StartDialTcp(const std::string& address, uint16_t port) {
  LOCKSTEP_ASSIGN_OR_RETURN(AddressInfo info, Resolve(address, port));
  UniqueFd fd(socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return Errno("cannot make a TCP socket");
  SetDataOptions(fd.get());
  if (connect(fd.get(), info->ai_addr, info->ai_addrlen) != 0 && errno != EINPROGRESS) {
    return DialError(errno);
  }
  return fd;
}

absl::StatusOr<bool> DialDone(const UniqueFd& socket) {
  pollfd ready = {.fd = socket.get(), .events = POLLOUT, .revents = 0};
  if (poll(&ready, 1, 0) == 0) return false;
  int error = 0;
  socklen_t length = sizeof(error);
  if (getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &length) != 0) error = errno;
  if (error != 0) return DialError(error);
  return true;
}

absl::StatusOr<std::optional<UniqueFd>> AcceptTcp(const UniqueFd& listener) {
  UniqueFd fd(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (fd) {
    SetDataOptions(fd.get());
    return std::optional<UniqueFd>(std::move(fd));
  }
  // Out of descriptors or memory is worth an error; a visitor that has hung up already is not.
  if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
    return Errno("cannot accept a connection");
  }
  return std::optional<UniqueFd>();
}

absl::Status SendLine(const UniqueFd& socket, std::string_view line) {
  std::string text = absl::StrCat(absl::string_view(line.data(), line.size()), "\n");
  ssize_t sent = send(socket.get(), text.data(), text.size(), MSG_NOSIGNAL);
  if (sent < 0) return Errno("cannot send a greeting");
  if (static_cast<size_t>(sent) != text.size()) return absl::UnavailableError("greeting was cut");
  return absl::OkStatus();
}

absl::StatusOr<bool> ReceiveLine(const UniqueFd& socket, std::string& line) {
  char bytes[kMaxLine];
  ssize_t count = recv(socket.get(), bytes, sizeof(bytes), MSG_PEEK);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (count < 0) return Errno("connection lost");
  if (count == 0) return absl::UnavailableError("connection closed");
  char* end = std::find(bytes, bytes + count, '\n');
  bool complete = end != bytes + count;
  line.append(bytes, end);
  if (line.size() > kMaxLine) return absl::InvalidArgumentError("greeting too long");
  // What was looked at is there, so that this takes exactly as much.
  recv(socket.get(), bytes, static_cast<size_t>(end - bytes) + (complete ? 1 : 0), 0);
  return complete;
}

}  // namespace lockstep::worker
