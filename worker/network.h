// Where the coordinator is and which local address reaches it.
#ifndef LOCKSTEP_WORKER_NETWORK_H_
#define LOCKSTEP_WORKER_NETWORK_H_

#include <string>

#include "absl/status/statusor.h"

namespace lockstep::worker {

struct Endpoint {
  std::string host;  // without brackets
  std::string port;
};

/// "host:port", "10.0.0.1:50051" or "[::1]:50051". InvalidArgument otherwise.
absl::StatusOr<Endpoint> ParseEndpoint(const std::string& text);

/// Whether the host is this machine's loopback: localhost, 127.0.0.0/8 or ::1. Looks up no names.
bool IsLoopback(const std::string& host);

/// The local address from which the endpoint is reached: 127.0.0.1 or ::1 for a loopback one, else
/// what the routing table says. Resolves the host's name; sends nothing. Unavailable when there is
/// no route or no such host.
absl::StatusOr<std::string> LocalAddressTowards(const Endpoint& endpoint);

/// The machine's host name.
std::string HostName();

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_NETWORK_H_
