// How the ranks of a group find each other over TCP: every rank dials the ranks below its own and
// is dialed by those above.
//
// The greeting. The dialer sends one line (member_line.h): epoch, group, rank, size, whom it means,
// and the secret from that rank's address. The dialed rank answers with its own line and the secret
// from the dialer's address, or with a line that says why it refuses. A stranger, or a rank of an
// epoch that is over, knows no secret; it is refused and disturbs nobody, also if it says nothing.
#ifndef LOCKSTEP_WORKER_COLLECTIVE_TCP_RENDEZVOUS_H_
#define LOCKSTEP_WORKER_COLLECTIVE_TCP_RENDEZVOUS_H_

#include <cstdint>
#include <list>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/collective/collective.h"
#include "worker/collective/failure_latch.h"
#include "worker/collective/unique_fd.h"

namespace lockstep::worker {

/// Where a rank listens, and what its visitors must know.
struct TcpEndpoint {
  std::string address;
  uint16_t port = 0;
  std::string secret;
};

/// One attempt of one rank; used by one thread.
class TcpRendezvous {
 public:
  /// `wake` is an eventfd that becomes readable when `failure` is raised. References must outlive
  /// this object. endpoints[r] is that of rank r.
  TcpRendezvous(const GroupMember& self, std::vector<TcpEndpoint> endpoints,
                const UniqueFd& listener, const UniqueFd& wake, const FailureLatch& failure);

  /// Blocks until there is a greeted socket to every peer: result[r] is connected to rank r. Fails
  /// with the failure that is raised meanwhile, Unavailable if a peer's port is closed,
  /// FailedPrecondition if a peer refuses, DeadlineExceeded naming the missing ranks.
  absl::StatusOr<std::vector<UniqueFd>> Run(absl::Time deadline);

 private:
  struct Dial {
    int peer;
    UniqueFd socket;  // none while waiting for the next try
    bool greeted = false;
    std::string line = {};
    absl::Time next_try = absl::InfinitePast();
    absl::Status last_error = {};
  };
  struct Visitor {
    UniqueFd socket;
    absl::Time expires;
    std::string line = {};
  };

  bool Complete() const;
  absl::Status MissingRanks() const;
  void Wait(absl::Time deadline);
  absl::Status ServeListener();
  void ServeVisitors();
  bool ServeVisitor(Visitor& visitor);
  absl::Status Admit(Visitor& visitor);
  absl::Status ServeDials();
  absl::StatusOr<bool> ServeDial(Dial& dial);
  absl::StatusOr<bool> Greet(Dial& dial);
  absl::Status CheckWelcome(const Dial& dial) const;
  std::string Greeting(std::string_view kind, int peer) const;

  GroupMember self_;
  std::vector<TcpEndpoint> endpoints_;
  const UniqueFd& listener_;
  const UniqueFd& wake_;
  const FailureLatch& failure_;
  std::vector<UniqueFd> sockets_;
  std::list<Dial> dials_;
  std::list<Visitor> visitors_;
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_COLLECTIVE_TCP_RENDEZVOUS_H_
