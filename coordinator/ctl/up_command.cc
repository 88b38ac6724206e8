// See up_command.h.
#include "coordinator/ctl/up_command.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "coordinator/ctl/admin_client.h"
#include "coordinator/ctl/local_cluster.h"
#include "coordinator/ctl/status_format.h"

namespace lockstep::coordinator {
namespace {

std::atomic<bool> interrupted{false};

/// Shows how the cluster comes up: one line that renews itself on a terminal, else a line per
/// change.
class ProgressPrinter {
 public:
  void Show(const std::string& line) {
    if (line == last_) return;
    last_ = line;
    std::cerr << (terminal_ ? "\r\033[K" : "") << line << (terminal_ ? "" : "\n") << std::flush;
  }
  void End() {
    if (terminal_ && !last_.empty()) std::cerr << "\r\033[K" << std::flush;
  }

 private:
  const bool terminal_ = isatty(STDERR_FILENO);
  std::string last_;
};

bool AllServe(const v1::GetTopologyResponse& topology) {
  return std::all_of(topology.replicas().begin(), topology.replicas().end(),
                     [](const v1::ReplicaStatus& replica) {
                       return replica.state() == v1::CLUSTER_STATE_SERVING;
                     });
}

const v1::ReplicaStatus* FindFailed(const v1::GetTopologyResponse& topology) {
  for (const v1::ReplicaStatus& replica : topology.replicas()) {
    if (replica.state() == v1::CLUSTER_STATE_FAILED) return &replica;
  }
  return nullptr;
}

/// Until all replicas serve. FailedPrecondition with the coordinator's words when it cannot.
absl::Status WaitUntilServing(LocalCluster& cluster) {
  ProgressPrinter printer;
  std::shared_ptr<grpc::Channel> channel = MakeChannel(cluster.address());
  while (!interrupted) {
    LOCKSTEP_RETURN_IF_ERROR(cluster.Supervise());
    absl::StatusOr<v1::GetTopologyResponse> topology =
        GetTopology(channel, cluster.address(), absl::Seconds(2));
    if (topology.ok()) {
      if (AllServe(*topology)) {
        printer.End();
        return absl::OkStatus();
      }
      if (const v1::ReplicaStatus* failed = FindFailed(*topology)) {
        printer.End();
        return absl::FailedPreconditionError(failed->detail());
      }
      printer.Show(FormatProgressLine(*topology));
    }
    absl::SleepFor(absl::Milliseconds(20));
  }
  return absl::CancelledError("interrupted");
}

absl::Status Run(const UpOptions& options) {
  absl::Time start = absl::Now();
  LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<LocalCluster> cluster,
                            LocalCluster::Start(options, [] { return interrupted.load(); }));
  std::cerr << "logs: " << cluster->log_dir().string() << "\n";
  LOCKSTEP_RETURN_IF_ERROR(WaitUntilServing(*cluster));
  std::cout << "serving on " << cluster->address()
            << (cluster->http_address().empty() ? "" : " and http://" + cluster->http_address())
            << " after "
            << absl::FormatDuration(absl::Trunc(absl::Now() - start, absl::Milliseconds(10)))
            << "; Ctrl-C stops it" << std::endl;
  while (!interrupted) {
    LOCKSTEP_RETURN_IF_ERROR(cluster->Supervise());
    absl::SleepFor(absl::Milliseconds(50));
  }
  std::cerr << "stopping" << std::endl;
  return absl::OkStatus();
}

}  // namespace

std::vector<std::string> ShareCpus(const std::vector<int>& cpus, int ranks) {
  std::vector<std::string> shares;
  const int count = static_cast<int>(cpus.size());
  for (int rank = 0; rank < ranks; ++rank) {
    int begin = rank * count / ranks;
    int end = std::max(begin + 1, (rank + 1) * count / ranks);
    if (ranks > count) begin = rank % count, end = begin + 1;
    std::string share;
    for (int i = begin; i < end; ++i) absl::StrAppend(&share, share.empty() ? "" : ",", cpus[i]);
    shares.push_back(share);
  }
  return shares;
}

std::vector<std::string> NodeOfRank(int ranks, int nodes) {
  std::vector<std::string> names;
  for (int rank = 0; rank < ranks; ++rank)
    names.push_back(absl::StrCat("node", rank * nodes / ranks));
  return names;
}

int RunUp(const UpOptions& options) {
  signal(SIGINT, [](int) { interrupted = true; });
  signal(SIGTERM, [](int) { interrupted = true; });
  absl::Status status = Run(options);
  if (status.ok() || absl::IsCancelled(status)) return 0;
  std::cerr << "coordinatorctl up: " << status.message() << std::endl;
  return 1;
}

}  // namespace lockstep::coordinator
