// HOST:PORT, taken apart at the last colon.
#include "coordinator/listen_address.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace lockstep::coordinator {
namespace {

bool IsLoopback(std::string_view host) {
  return host == "localhost" || host == "[::1]" || host.starts_with("127.");
}

}  // namespace

std::string ListenAddress::ToString() const { return absl::StrCat(host, ":", port); }

absl::StatusOr<ListenAddress> ParseListenAddress(std::string_view text, std::string_view flag) {
  const size_t colon = text.rfind(':');
  ListenAddress address;
  if (colon == std::string_view::npos || colon == 0 ||
      !absl::SimpleAtoi(std::string(text.substr(colon + 1)), &address.port) || address.port < 0 ||
      address.port > 65535 || (text[0] == '[') != (text[colon - 1] == ']') ||
      (text[0] != '[' && text.find(':') != colon)) {
    return absl::InvalidArgumentError(absl::StrCat(
        std::string(flag), " is \"", std::string(text),
        "\", but must be HOST:PORT with a port of 0 to 65535, like 127.0.0.1:50051 or [::1]:0"));
  }
  address.host = std::string(text.substr(0, colon));
  address.is_loopback = IsLoopback(address.host);
  return address;
}

}  // namespace lockstep::coordinator
