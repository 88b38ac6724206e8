// Starts one child process per device and watches over them.
#ifndef LOCKSTEP_WORKER_SUPERVISOR_H_
#define LOCKSTEP_WORKER_SUPERVISOR_H_

#include <string>
#include <vector>

namespace lockstep::worker {

/// The command line of one child, program first; run with this process's environment.
struct ChildCommand {
  std::string name;  // for messages: the device
  std::vector<std::string> arguments;
};

/// Runs all children and blocks until all have ended. Each is in a session of its own, so that the
/// scheduler's autogroups keep the ranks apart, and dies with this process. SIGTERM and SIGINT are
/// passed on as SIGTERM. A child that ends by itself with another status than 0 is reported, and
/// the others are stopped. Returns the exit status for this process: 0, or 1 after such an end.
/// SIGTERM, SIGINT and SIGCHLD must be blocked in the calling thread, the only one of the process.
int Supervise(const std::vector<ChildCommand>& commands);

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_SUPERVISOR_H_
