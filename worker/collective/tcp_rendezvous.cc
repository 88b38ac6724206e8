// See tcp_rendezvous.h.
#include "worker/collective/tcp_rendezvous.h"

#include <poll.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "worker/collective/member_line.h"
#include "worker/collective/tcp_socket.h"

namespace lockstep::worker {
namespace {

constexpr std::string_view kHello = "lockstep-tcp-hello/1";
constexpr std::string_view kWelcome = "lockstep-tcp-welcome/1";
constexpr absl::string_view kRefused = "lockstep-tcp-refused/1 ";
constexpr std::string_view kRequired[] = {"rank", "to", "secret"};

constexpr absl::Duration kRedial = absl::Milliseconds(100);
constexpr absl::Duration kVisitorPatience = absl::Seconds(5);
constexpr size_t kMaxVisitors = 2 * kMaxGroupSize;

}  // namespace

TcpRendezvous::TcpRendezvous(const GroupMember& self, std::vector<TcpEndpoint> endpoints,
                             const UniqueFd& listener, const UniqueFd& wake,
                             const FailureLatch& failure)
    : self_(self),
      endpoints_(std::move(endpoints)),
      listener_(listener),
      wake_(wake),
      failure_(failure),
      sockets_(static_cast<size_t>(self.size)) {
  for (int peer = 0; peer < self.rank; ++peer) dials_.push_back({.peer = peer, .socket = {}});
}

absl::StatusOr<std::vector<UniqueFd>> TcpRendezvous::Run(absl::Time deadline) {
  while (!Complete()) {
    LOCKSTEP_RETURN_IF_ERROR(ServeDials());
    LOCKSTEP_RETURN_IF_ERROR(ServeListener());
    ServeVisitors();
    if (failure_.raised()) return failure_.status();
    if (Complete()) break;
    if (absl::Now() >= deadline) return MissingRanks();
    Wait(deadline);
  }
  return std::move(sockets_);
}

bool TcpRendezvous::Complete() const {
  return std::ranges::count_if(sockets_, [](const UniqueFd& fd) { return bool(fd); }) ==
         self_.size - 1;
}

absl::Status TcpRendezvous::MissingRanks() const {
  std::vector<int> missing;
  for (int peer = 0; peer < self_.size; ++peer) {
    if (peer != self_.rank && !sockets_[peer]) missing.push_back(peer);
  }
  std::string message =
      absl::StrCat("group ", self_.group, " of ", self_.size, " ranks did not form: rank ",
                   absl::StrJoin(missing, ", "), " did not come");
  for (const Dial& dial : dials_) {
    if (!dial.last_error.ok()) {
      absl::StrAppend(&message, "; rank ", dial.peer, " at ", endpoints_[dial.peer].address,
                      " port ", endpoints_[dial.peer].port, ": ", dial.last_error.message());
    }
  }
  return absl::DeadlineExceededError(message);
}

void TcpRendezvous::Wait(absl::Time deadline) {
  std::vector<pollfd> waits = {{.fd = wake_.get(), .events = POLLIN, .revents = 0},
                               {.fd = listener_.get(), .events = POLLIN, .revents = 0}};
  absl::Time until = deadline;
  for (const Visitor& visitor : visitors_) {
    waits.push_back({.fd = visitor.socket.get(), .events = POLLIN, .revents = 0});
    until = std::min(until, visitor.expires);
  }
  for (const Dial& dial : dials_) {
    short events = dial.greeted ? POLLIN : POLLOUT;
    if (dial.socket) waits.push_back({.fd = dial.socket.get(), .events = events, .revents = 0});
    if (!dial.socket) until = std::min(until, dial.next_try);
  }
  // Rounded up, so that the time has come when poll returns; bounded, so that it fits an int.
  absl::Duration left = std::clamp(until - absl::Now(), absl::ZeroDuration(), absl::Seconds(60));
  poll(waits.data(), waits.size(), static_cast<int>(absl::ToInt64Milliseconds(left)) + 1);
}

absl::Status TcpRendezvous::ServeListener() {
  while (true) {
    LOCKSTEP_ASSIGN_OR_RETURN(std::optional<UniqueFd> socket, AcceptTcp(listener_));
    if (!socket) return absl::OkStatus();
    visitors_.push_back({std::move(*socket), absl::Now() + kVisitorPatience});
    if (visitors_.size() > kMaxVisitors) visitors_.pop_front();
  }
}

void TcpRendezvous::ServeVisitors() {
  std::erase_if(visitors_, [&](Visitor& visitor) {
    return ServeVisitor(visitor) || absl::Now() >= visitor.expires;
  });
}

/// Whether the visitor is done with, admitted or not.
bool TcpRendezvous::ServeVisitor(Visitor& visitor) {
  absl::StatusOr<bool> complete = ReceiveLine(visitor.socket, visitor.line);
  if (!complete.ok()) return true;
  if (!*complete) return false;
  absl::Status admitted = Admit(visitor);
  if (!admitted.ok() && visitor.socket) {
    // Whether the stranger hears it does not matter to this rank.
    SendLine(visitor.socket, absl::StrCat(kRefused, admitted.message())).IgnoreError();
  }
  return true;
}

absl::Status TcpRendezvous::Admit(Visitor& visitor) {
  LOCKSTEP_ASSIGN_OR_RETURN(MemberFields fields, ParseMemberLine(kHello, visitor.line, kRequired));
  int peer = -1;
  if (!absl::SimpleAtoi(fields["rank"], &peer) || peer <= self_.rank || peer >= self_.size) {
    return absl::InvalidArgumentError("that rank does not dial this one");
  }
  LOCKSTEP_RETURN_IF_ERROR(CheckMember(fields, self_, peer));
  if (fields["to"] != absl::StrCat(self_.rank) ||
      fields["secret"] != endpoints_[self_.rank].secret) {
    return absl::PermissionDeniedError("the secret is not that of this rank");
  }
  if (sockets_[peer]) return absl::AlreadyExistsError("that rank is connected already");
  LOCKSTEP_RETURN_IF_ERROR(SendLine(visitor.socket, Greeting(kWelcome, peer)));
  sockets_[peer] = std::move(visitor.socket);
  return absl::OkStatus();
}

absl::Status TcpRendezvous::ServeDials() {
  for (auto dial = dials_.begin(); dial != dials_.end();) {
    LOCKSTEP_ASSIGN_OR_RETURN(bool done, ServeDial(*dial));
    dial = done ? dials_.erase(dial) : std::next(dial);
  }
  return absl::OkStatus();
}

/// True once the peer is connected and has welcomed this rank.
absl::StatusOr<bool> TcpRendezvous::ServeDial(Dial& dial) {
  absl::StatusOr<bool> answered = dial.greeted ? ReceiveLine(dial.socket, dial.line) : Greet(dial);
  if (absl::IsUnavailable(answered.status())) {
    // Addresses are made by those who listen, so that a closed port means that the peer has ended.
    return absl::UnavailableError(absl::StrCat("rank ", dial.peer, " of group ", self_.group,
                                               " is gone: ", answered.status().message()));
  }
  if (!answered.ok()) {
    // The network may still be coming up, so that this is tried until the deadline.
    absl::Time next_try = absl::Now() + kRedial;
    dial = {.peer = dial.peer, .socket = {}, .next_try = next_try, .last_error = answered.status()};
    return false;
  }
  if (!*answered) return false;
  LOCKSTEP_RETURN_IF_ERROR(CheckWelcome(dial));
  sockets_[dial.peer] = std::move(dial.socket);
  return true;
}

/// One step towards a greeted socket; never an answer yet.
absl::StatusOr<bool> TcpRendezvous::Greet(Dial& dial) {
  const TcpEndpoint& endpoint = endpoints_[dial.peer];
  if (!dial.socket) {
    if (absl::Now() < dial.next_try) return false;
    LOCKSTEP_ASSIGN_OR_RETURN(dial.socket, StartDialTcp(endpoint.address, endpoint.port));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(bool connected, DialDone(dial.socket));
  if (!connected) return false;
  LOCKSTEP_RETURN_IF_ERROR(SendLine(dial.socket, Greeting(kHello, dial.peer)));
  dial.greeted = true;
  return false;
}

absl::Status TcpRendezvous::CheckWelcome(const Dial& dial) const {
  std::string who = absl::StrCat("rank ", dial.peer, " of group ", self_.group);
  if (absl::StartsWith(dial.line, kRefused)) {
    return absl::FailedPreconditionError(
        absl::StrCat(who, " refused rank ", self_.rank, ": ", dial.line.substr(kRefused.size())));
  }
  absl::StatusOr<MemberFields> fields = ParseMemberLine(kWelcome, dial.line, kRequired);
  absl::Status status = fields.status();
  if (status.ok()) status = CheckMember(*fields, self_, dial.peer);
  if (status.ok() && fields->at("secret") != endpoints_[self_.rank].secret) {
    status = absl::PermissionDeniedError("the secret is not that of this rank");
  }
  if (status.ok()) return status;
  return absl::FailedPreconditionError(
      absl::StrCat("who answers as ", who, " is not it: ", status.message()));
}

std::string TcpRendezvous::Greeting(std::string_view kind, int peer) const {
  return FormatMemberLine(kind, self_,
                          {{"to", absl::StrCat(peer)}, {"secret", endpoints_[peer].secret}});
}

}  // namespace lockstep::worker
