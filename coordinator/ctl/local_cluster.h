// The processes of a cluster on this machine: one coordinator, one worker per rank.
#ifndef LOCKSTEP_COORDINATOR_CTL_LOCAL_CLUSTER_H_
#define LOCKSTEP_COORDINATOR_CTL_LOCAL_CLUSTER_H_

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/ctl/child_process.h"
#include "coordinator/ctl/up_command.h"

namespace lockstep::coordinator {

/// Owns the child processes; the destructor stops them. Not thread-safe.
class LocalCluster {
 public:
  /// Starts the coordinator, waits until it listens, starts the workers. An error of the
  /// coordinator (illegal plan, unreadable model) comes back as FailedPrecondition with its own
  /// words. `interrupted` ends the wait early with Cancelled.
  static absl::StatusOr<std::unique_ptr<LocalCluster>> Start(
      const UpOptions& options, const std::function<bool()>& interrupted);
  LocalCluster(const LocalCluster&) = delete;
  LocalCluster& operator=(const LocalCluster&) = delete;
  ~LocalCluster();

  /// HOST:PORT that the coordinator listens on.
  const std::string& address() const { return address_; }
  /// The same for HTTP; empty if it listens for none.
  const std::string& http_address() const { return http_address_; }
  const std::filesystem::path& log_dir() const { return log_dir_; }

  /// Starts ended workers again, saying so on stderr. Unavailable when the coordinator has ended,
  /// or when a worker has ended five times within ten seconds each.
  absl::Status Supervise();

  /// Asks the coordinator to end (it takes its workers along), then insists.
  void Stop();

 private:
  struct Worker {
    std::vector<std::string> arguments;
    std::optional<ChildProcess> process;
    absl::Time started;
    int quick_ends = 0;
  };

  LocalCluster() = default;
  absl::Status StartCoordinator(const UpOptions& options, const std::function<bool()>& interrupted);
  absl::Status StartWorkers(const UpOptions& options);
  absl::Status StartWorker(size_t index);

  std::filesystem::path bin_dir_;
  std::filesystem::path log_dir_;
  std::string address_;
  std::string http_address_;
  std::optional<ChildProcess> coordinator_;
  std::vector<Worker> workers_;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CTL_LOCAL_CLUSTER_H_
