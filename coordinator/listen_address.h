// What follows --listen, and whether others can reach it.
#ifndef LOCKSTEP_COORDINATOR_LISTEN_ADDRESS_H_
#define LOCKSTEP_COORDINATOR_LISTEN_ADDRESS_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace lockstep::coordinator {

struct ListenAddress {
  std::string host;  // as given, an IPv6 address with its brackets
  int port = 0;      // 0: the system chooses
  /// Nothing but this machine can reach it: localhost, 127.0.0.0/8 or [::1].
  bool is_loopback = false;

  std::string ToString() const;
};

/// "HOST:PORT", as given with `flag`. InvalidArgument says what was found.
absl::StatusOr<ListenAddress> ParseListenAddress(std::string_view text,
                                                 std::string_view flag = "--listen");

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_LISTEN_ADDRESS_H_
