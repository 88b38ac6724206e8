// Host names, routes and addresses.
#include "worker/network.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lockstep::worker {
namespace {

// A connected datagram socket asks the routing table and sends nothing.
absl::StatusOr<std::string> SourceAddress(const addrinfo& target) {
  int fd = socket(target.ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return absl::ErrnoToStatus(errno, "socket");
  sockaddr_storage local{};
  socklen_t length = sizeof(local);
  bool known = connect(fd, target.ai_addr, target.ai_addrlen) == 0 &&
               getsockname(fd, reinterpret_cast<sockaddr*>(&local), &length) == 0;
  int error = errno;
  close(fd);
  if (!known) return absl::ErrnoToStatus(error, "no route");
  char text[NI_MAXHOST] = {};
  int failed = getnameinfo(reinterpret_cast<sockaddr*>(&local), length, text, sizeof(text), nullptr,
                           0, NI_NUMERICHOST);
  if (failed != 0) return absl::UnavailableError(gai_strerror(failed));
  return std::string(text);
}

}  // namespace

absl::StatusOr<Endpoint> ParseEndpoint(const std::string& text) {
  size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == text.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", text, "' is not HOST:PORT (--coordinator)"));
  }
  std::string host = text.substr(0, colon);
  bool bracketed = host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (host.empty() || (!bracketed && host.find(':') != std::string::npos)) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", text, "' is not HOST:PORT; an IPv6 address goes in brackets"));
  }
  return Endpoint{host, text.substr(colon + 1)};
}

bool IsLoopback(const std::string& host) {
  if (host == "localhost") return true;
  in_addr v4;
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6;
  return inet_pton(AF_INET6, host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

absl::StatusOr<std::string> LocalAddressTowards(const Endpoint& endpoint) {
  if (IsLoopback(endpoint.host)) return endpoint.host == "::1" ? "::1" : "127.0.0.1";
  addrinfo hints{};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  int failed = getaddrinfo(endpoint.host.c_str(), endpoint.port.c_str(), &hints, &found);
  if (failed != 0) {
    return absl::UnavailableError(
        absl::StrCat("the coordinator's host '", endpoint.host, "': ", gai_strerror(failed)));
  }
  std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  absl::Status last;
  for (const addrinfo* target = found; target != nullptr; target = target->ai_next) {
    absl::StatusOr<std::string> address = SourceAddress(*target);
    if (address.ok()) return address;
    last = address.status();
  }
  return absl::UnavailableError(absl::StrCat("the coordinator's host '", endpoint.host,
                                             "': ", last.message(),
                                             "; name the address to use with --data-interface"));
}

std::string HostName() {
  char name[256] = {};
  if (gethostname(name, sizeof(name) - 1) != 0 || name[0] == '\0') return "localhost";
  return name;
}

}  // namespace lockstep::worker
