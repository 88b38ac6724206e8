// What Lockstep needs of TCP sockets, as Status instead of errno. All sockets are non-blocking.
#ifndef LOCKSTEP_WORKER_COLLECTIVE_TCP_SOCKET_H_
#define LOCKSTEP_WORKER_COLLECTIVE_TCP_SOCKET_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/collective/unique_fd.h"

namespace lockstep::worker {

/// A listening socket on a numeric address ("10.0.0.1", "::1") and any free port. InvalidArgument
/// for names and for wildcard addresses, which no peer could dial.
absl::StatusOr<UniqueFd> ListenTcp(const std::string& address);
absl::StatusOr<uint16_t> PortOf(const UniqueFd& listener);

/// Starts to connect; the socket becomes writable when that has succeeded or failed. Unavailable if
/// nobody listens there, FailedPrecondition for what may pass, such as a network that is still
/// down.
absl::StatusOr<UniqueFd> StartDialTcp(const std::string& address, uint16_t port);
/// Whether the connect has succeeded by now; if it has failed, an error as of StartDialTcp.
absl::StatusOr<bool> DialDone(const UniqueFd& socket);

/// The next connection, or none if none is waiting.
absl::StatusOr<std::optional<UniqueFd>> AcceptTcp(const UniqueFd& listener);

/// Sends `line` and a newline at once; a socket just connected has room for it.
absl::Status SendLine(const UniqueFd& socket, std::string_view line);
/// Appends to `line` what has arrived, up to the newline, which is dropped, and nothing behind it.
/// True once the newline was there. Unavailable if the peer closed, InvalidArgument if it sent more
/// than any line of ours has.
absl::StatusOr<bool> ReceiveLine(const UniqueFd& socket, std::string& line);

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_COLLECTIVE_TCP_SOCKET_H_
