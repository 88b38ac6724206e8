// Starting, supervising and stopping the processes; see local_cluster.h.
#include "coordinator/ctl/local_cluster.h"

#include <signal.h>

#include <fstream>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/processors.h"
#include "base/status_macros.h"

namespace lockstep::coordinator {
namespace {

constexpr int kMostQuickEnds = 5;
constexpr absl::Duration kQuickEnd = absl::Seconds(10);
constexpr absl::Duration kCoordinatorStart = absl::Seconds(30);
constexpr absl::Duration kGracefulStop = absl::Seconds(5);

absl::StatusOr<std::filesystem::path> MakeLogDir(const std::string& wanted) {
  std::error_code error;
  if (!wanted.empty()) {
    std::filesystem::create_directories(wanted, error);
    if (error)
      return absl::NotFoundError(absl::StrCat("--log-dir ", wanted, ": ", error.message()));
    return std::filesystem::path(wanted);
  }
  std::string path = std::filesystem::temp_directory_path(error) / "lockstep-up-XXXXXX";
  if (mkdtemp(path.data()) == nullptr) return absl::ErrnoToStatus(errno, path);
  return std::filesystem::path(path);
}

/// The ports that the coordinator has written, gRPC's first; none before it listens.
std::vector<std::string> ReadPorts(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::vector<std::string> ports;
  for (std::string line; std::getline(in, line);) ports.push_back(line);
  return ports;
}

/// Where to dial what listens at `listen` with that port.
std::string DialAddress(const std::string& listen, const std::string& port) {
  std::string host = listen.substr(0, listen.rfind(':'));
  // What was bound to every address is dialled on loopback.
  if (host == "0.0.0.0" || host.empty()) host = "127.0.0.1";
  if (host == "[::]") host = "[::1]";
  return absl::StrCat(host, ":", port);
}

}  // namespace

absl::StatusOr<std::unique_ptr<LocalCluster>> LocalCluster::Start(
    const UpOptions& options, const std::function<bool()>& interrupted) {
  std::unique_ptr<LocalCluster> cluster(new LocalCluster());
  std::error_code error;
  cluster->bin_dir_ = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  LOCKSTEP_ASSIGN_OR_RETURN(cluster->log_dir_, MakeLogDir(options.log_dir));
  LOCKSTEP_RETURN_IF_ERROR(cluster->StartCoordinator(options, interrupted));
  LOCKSTEP_RETURN_IF_ERROR(cluster->StartWorkers(options));
  return cluster;
}

LocalCluster::~LocalCluster() { Stop(); }

absl::Status LocalCluster::StartCoordinator(const UpOptions& options,
                                            const std::function<bool()>& interrupted) {
  std::filesystem::path port_file = log_dir_ / "coordinator.port";
  std::error_code error;
  std::filesystem::remove(port_file, error);
  std::vector<std::string> arguments = {bin_dir_ / "coordinatord",
                                        absl::StrCat("--listen=", options.listen),
                                        absl::StrCat("--tp=", options.tp),
                                        absl::StrCat("--pp=", options.pp),
                                        absl::StrCat("--replicas=", options.replicas),
                                        absl::StrCat("--port-file=", port_file.string())};
  if (!options.http.empty()) arguments.push_back(absl::StrCat("--http=", options.http));
  arguments.insert(arguments.end(), options.coordinator_arguments.begin(),
                   options.coordinator_arguments.end());
  LOCKSTEP_ASSIGN_OR_RETURN(coordinator_,
                            ChildProcess::Start(arguments, log_dir_ / "coordinatord.log"));
  absl::Time deadline = absl::Now() + kCoordinatorStart;
  std::vector<std::string> ports;
  while ((ports = ReadPorts(port_file)).empty()) {
    if (std::optional<std::string> ended = coordinator_->Ended()) {
      return absl::FailedPreconditionError(absl::StrCat("coordinatord ended with ", *ended, ":\n",
                                                        Tail(coordinator_->log_file(), 20)));
    }
    if (interrupted()) return absl::CancelledError("interrupted");
    if (absl::Now() > deadline) {
      return absl::DeadlineExceededError(absl::StrCat(
          "coordinatord does not listen after ", absl::FormatDuration(kCoordinatorStart),
          "; its log: ", coordinator_->log_file().string()));
    }
    absl::SleepFor(absl::Milliseconds(2));
  }
  address_ = DialAddress(options.listen, ports[0]);
  if (ports.size() > 1) http_address_ = DialAddress(options.http, ports[1]);
  return absl::OkStatus();
}

absl::Status LocalCluster::StartWorkers(const UpOptions& options) {
  const int ranks = options.replicas * options.tp * options.pp;
  std::vector<std::string> cpus = ShareCpus(AllowedCpus(), ranks);
  std::vector<std::string> nodes = NodeOfRank(ranks, options.nodes);
  for (int rank = 0; rank < ranks; ++rank) {
    workers_.push_back(
        {.arguments = {bin_dir_ / "workerd", absl::StrCat("--coordinator=", address_),
                       absl::StrCat("--device=cpu:", rank), absl::StrCat("--local-index=", rank),
                       absl::StrCat("--cpus=", cpus[rank]), absl::StrCat("--node=", nodes[rank])}});
    LOCKSTEP_RETURN_IF_ERROR(StartWorker(workers_.size() - 1));
  }
  return absl::OkStatus();
}

absl::Status LocalCluster::StartWorker(size_t index) {
  Worker& worker = workers_[index];
  worker.started = absl::Now();
  LOCKSTEP_ASSIGN_OR_RETURN(
      worker.process,
      ChildProcess::Start(worker.arguments, log_dir_ / absl::StrCat("workerd-", index, ".log")));
  return absl::OkStatus();
}

absl::Status LocalCluster::Supervise() {
  if (std::optional<std::string> ended = coordinator_->Ended()) {
    return absl::UnavailableError(absl::StrCat("coordinatord ended with ", *ended, ":\n",
                                               Tail(coordinator_->log_file(), 20)));
  }
  for (size_t i = 0; i < workers_.size(); ++i) {
    Worker& worker = workers_[i];
    std::optional<std::string> ended = worker.process->Ended();
    if (!ended) continue;
    bool quick = absl::Now() - worker.started < kQuickEnd;
    worker.quick_ends = quick ? worker.quick_ends + 1 : 0;
    if (worker.quick_ends >= kMostQuickEnds) {
      return absl::UnavailableError(absl::StrCat("worker ", i, " ended ", kMostQuickEnds,
                                                 " times in a row, last with ", *ended, ":\n",
                                                 Tail(worker.process->log_file(), 20)));
    }
    std::cerr << "worker " << i << " ended with " << *ended << "; starting it again\n";
    LOCKSTEP_RETURN_IF_ERROR(StartWorker(i));
  }
  return absl::OkStatus();
}

void LocalCluster::Stop() {
  absl::Time deadline = absl::Now() + kGracefulStop;
  if (coordinator_) {
    coordinator_->Signal(SIGTERM);
    if (!coordinator_->WaitUntil(deadline)) coordinator_->Signal(SIGKILL);
  }
  for (Worker& worker : workers_) {
    if (worker.process) worker.process->Signal(SIGTERM);
  }
  for (Worker& worker : workers_) {
    if (worker.process && !worker.process->WaitUntil(deadline)) worker.process->Signal(SIGKILL);
  }
  workers_.clear();
  coordinator_.reset();
}

}  // namespace lockstep::coordinator
