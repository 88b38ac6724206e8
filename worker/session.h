// The life of one Join connection and of the epochs on it: a pure state machine. Messages go in,
// commands come out; it does no I/O and starts no thread.
//
//   registering --Welcome--> idle --Assignment--> awaiting peers --CollectivePeers--> forming
//   forming --Ready sent--> serving
//   awaiting peers, forming, serving --AbortEpoch, failure, newer Assignment, disconnection--> idle
//   any --Shutdown--> exiting
#ifndef LOCKSTEP_WORKER_SESSION_H_
#define LOCKSTEP_WORKER_SESSION_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/lockstep/v1/cluster.pb.h"

namespace lockstep::worker {

/// Make the communicators' endpoints, answer with their addresses, prepare to load.
struct BeginEpoch {
  v1::Assignment assignment;
};
/// The peers are known: connect, load, serve.
struct FormEpoch {
  v1::CollectivePeers peers;
};
/// Abort all that belongs to the epoch under way; weights stay.
struct EndEpoch {
  uint64_t epoch = 0;
  std::string reason;
};
/// Close the streams and end with status 0.
struct Exit {
  std::string reason;
};
using SessionCommand = std::variant<BeginEpoch, FormEpoch, EndEpoch, Exit>;
using SessionCommands = std::vector<SessionCommand>;

/// Not thread-safe. Lives as long as the process: it remembers the highest epoch over connections.
class Session {
 public:
  enum class State { kRegistering, kIdle, kAwaitingPeers, kForming, kServing, kExiting };

  State state() const { return state_; }
  /// The highest epoch seen; 0 for none.
  uint64_t highest_epoch() const { return highest_epoch_; }
  /// The epoch under way; 0 for none.
  uint64_t epoch() const { return epoch_; }

  /// What a message asks for. Messages of a stale epoch ask for nothing. InvalidArgument for one
  /// that makes no sense in this state: the connection should be dropped.
  absl::StatusOr<SessionCommands> OnMessage(const v1::JoinResponse& message);
  /// A new connection begins with registering; the old one's epoch ends.
  SessionCommands OnDisconnected(const std::string& reason);

  /// The rank has formed. True if the epoch is still the one under way, so that Ready may be told.
  bool OnFormed(uint64_t epoch);
  /// The epoch cannot go on. True if it was the one under way, so that EpochFailed may be told.
  bool OnFailed(uint64_t epoch);

 private:
  SessionCommands OnAssignment(const v1::Assignment& assignment);
  SessionCommands OnPeers(const v1::CollectivePeers& peers);
  SessionCommands OnAbort(const v1::AbortEpoch& abort);
  void EndCurrent(const std::string& reason, SessionCommands& commands);

  State state_ = State::kRegistering;
  uint64_t highest_epoch_ = 0;
  uint64_t epoch_ = 0;
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_SESSION_H_
