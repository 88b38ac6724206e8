// Runs collective_peer as a child process of a test.
#ifndef LOCKSTEP_WORKER_COLLECTIVE_PEER_PROCESS_H_
#define LOCKSTEP_WORKER_COLLECTIVE_PEER_PROCESS_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "worker/collective/thread_group.h"
#include "worker/collective/unique_fd.h"

namespace lockstep::worker {

/// A child that is killed and reaped at the latest when this is destroyed. Failures to start it or
/// to hear from it within 30 s fail the test.
class PeerProcess {
 public:
  /// Starts collective_peer with `flags`; `prefix` is a command to run it under, such as "ip netns
  /// exec NAME".
  explicit PeerProcess(const std::vector<std::string>& flags,
                       const std::vector<std::string>& prefix = {});
  ~PeerProcess();
  PeerProcess(PeerProcess&& other) noexcept;

  /// The next line that it prints, without the newline; empty if it printed no more.
  std::string ReadLine();
  void WriteLines(const std::vector<std::string>& lines);
  /// Sends SIGKILL and waits until the process is gone.
  void Kill();
  /// Sends SIGSTOP and waits until the process has stopped.
  void Stop();

 private:
  pid_t pid_ = 0;
  UniqueFd stdin_;
  UniqueFd stdout_;
};

/// The flags of rank `rank` of `size`.
std::vector<std::string> PeerFlags(Transport transport, int rank, int size,
                                   const std::string& scenario);

/// Reads the address of every peer, hands all addresses to all and waits until they are connected.
void ConnectPeers(std::vector<PeerProcess>& peers);

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_COLLECTIVE_PEER_PROCESS_H_
