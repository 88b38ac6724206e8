// `coordinatorctl status`: how the cluster stands, once or again and again.
#ifndef LOCKSTEP_COORDINATOR_CTL_STATUS_COMMAND_H_
#define LOCKSTEP_COORDINATOR_CTL_STATUS_COMMAND_H_

#include <string>

namespace lockstep::coordinator {

struct StatusOptions {
  std::string coordinator;  // HOST:PORT
  bool json = false;
  bool watch = false;  // once a second until interrupted
};

/// Prints to stdout, errors to stderr. Returns the exit status: 0 when serving, 3 when the cluster
/// answers and does not serve, 1 when nothing answers.
int RunStatus(const StatusOptions& options);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CTL_STATUS_COMMAND_H_
