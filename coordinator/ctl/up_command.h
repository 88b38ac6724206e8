// `coordinatorctl up`: a whole cluster on this machine, started, watched and stopped by one
// command.
#ifndef LOCKSTEP_COORDINATOR_CTL_UP_COMMAND_H_
#define LOCKSTEP_COORDINATOR_CTL_UP_COMMAND_H_

#include <string>
#include <vector>

namespace lockstep::coordinator {

struct UpOptions {
  std::string listen = "127.0.0.1:50051";  // HOST:PORT of gRPC; port 0 takes a free one
  std::string http;                        // the same of HTTP; empty for none
  int tp = 1;
  int pp = 1;
  // Groups of tp x pp workers.
  int replicas = 1;
  // Node names to spread the workers over, as if they were machines of their own: ranks of
  // different nodes do not share memory.
  int nodes = 1;
  // Passed on to coordinatord as they are: "--model=...", "--dtype=...".
  std::vector<std::string> coordinator_arguments;
  // Where the logs go; empty makes a new directory under the system's temporary one.
  std::string log_dir;
};

/// The cpu lists ("0-1", "2") of `ranks` ranks that share `cpus`: contiguous and as equal as
/// possible, or one CPU each, taken in turn, when there are more ranks than CPUs.
std::vector<std::string> ShareCpus(const std::vector<int>& cpus, int ranks);

/// The node ("node0", ...) of each rank: whole contiguous groups, as equal as possible.
std::vector<std::string> NodeOfRank(int ranks, int nodes);

/// Runs until interrupted (SIGINT, SIGTERM) or until the cluster cannot go on. A worker that ends
/// is started again. Returns the exit status: 0 after an interrupt, 1 when the cluster failed, with
/// the reason on stderr.
int RunUp(const UpOptions& options);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CTL_UP_COMMAND_H_
