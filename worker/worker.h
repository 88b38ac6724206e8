// The daemon's life: dial the coordinator, join, do what the session says, dial again when the
// connection is lost, with the weights still held.
#ifndef LOCKSTEP_WORKER_WORKER_H_
#define LOCKSTEP_WORKER_WORKER_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "proto/lockstep/v1/cluster.pb.h"
#include "worker/compute_thread.h"
#include "worker/coordinator_client.h"
#include "worker/epoch_run.h"
#include "worker/progress.h"
#include "worker/session.h"

namespace lockstep::worker {

struct WorkerOptions {
  v1::Register registration;   // without highest_epoch
  std::vector<int> cpus;       // one compute thread per entry, pinned; empty: see threads
  int threads = 1;             // compute threads, unpinned, when `cpus` is empty
  std::string data_interface;  // where TCP collectives listen
  // A new client for every attempt to connect.
  std::function<std::unique_ptr<CoordinatorClient>()> dial;
};

/// Three threads: the caller of Run is the control thread, which reads the Join stream and never
/// computes; the compute thread; and the heartbeat's.
class Worker {
 public:
  explicit Worker(WorkerOptions options);
  ~Worker();

  /// Blocks until the coordinator says Shutdown or Stop is called. Connection losses, failed loads
  /// and failed epochs do not end it.
  void Run();
  /// Makes Run return soon. Any thread, also before Run.
  void Stop();

 private:
  void ServeConnection();
  bool Register(JoinStream& stream);
  absl::Status ReceiveUntilBroken(JoinStream& stream);
  void Disconnected(const std::string& reason);
  void WaitBeforeRedial();
  void SendHeartbeats();

  void Execute(const SessionCommand& command);
  void Begin(const v1::Assignment& assignment);
  void Form(const v1::CollectivePeers& peers);
  void End(uint64_t epoch, const std::string& reason);
  void Leave(const std::string& reason);

  // On the compute thread.
  void RunEpoch(ComputeState& state, std::shared_ptr<EpochRun> run,
                const v1::CollectivePeers& peers);
  void ReportLoad(uint64_t epoch, int64_t loaded_bytes, int64_t total_bytes);
  void ReportFailure(uint64_t epoch, const absl::Status& status);

  void Send(const v1::JoinRequest& message);

  const WorkerOptions options_;
  Progress progress_;
  absl::Time load_reported_at_;  // compute thread

  std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  bool stopping_ = false;
  Session session_;
  std::shared_ptr<CoordinatorClient> client_;
  std::shared_ptr<JoinStream> stream_;  // while one is open
  bool joined_ = false;                 // the coordinator has welcomed this worker on stream_
  std::shared_ptr<EpochRun> run_;       // of the epoch under way
  absl::Duration redial_delay_;

  // Last, so that they end before what they use.
  ComputeThread compute_;
  std::thread heartbeat_;
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_WORKER_H_
