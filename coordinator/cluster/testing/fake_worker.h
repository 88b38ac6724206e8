// A worker without a model, for tests: speaks both streams over real gRPC and does as it is told,
// unless its script says otherwise.
#ifndef LOCKSTEP_COORDINATOR_CLUSTER_TESTING_FAKE_WORKER_H_
#define LOCKSTEP_COORDINATOR_CLUSTER_TESTING_FAKE_WORKER_H_

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "proto/lockstep/v1/cluster.grpc.pb.h"

namespace lockstep::coordinator {

/// Thread-safe. Three threads at most: control, data, and the caller's.
class FakeWorker {
 public:
  struct Options {
    std::string worker_id = "worker";
    std::string node = "a";
    uint32_t local_index = 0;
    int64_t memory_bytes = int64_t{1} << 30;
    uint64_t highest_epoch = 0;
    /// What to say to a message; an Execute stream is opened after a Ready in it.
    std::function<std::vector<v1::JoinRequest>(const v1::JoinResponse&)> on_control = Obey;
    /// nullopt: no answer to this batch.
    std::function<std::optional<v1::StepResult>(const v1::Assignment&, const v1::StepBatch&)>
        on_batch = Answer;
    bool keep_batches = true;
  };

  /// Registers at once.
  FakeWorker(std::shared_ptr<grpc::Channel> channel, Options options);
  ~FakeWorker();

  /// Addresses for an assignment, LoadProgress and Ready for peers, silence otherwise.
  static std::vector<v1::JoinRequest> Obey(const v1::JoinResponse& message);
  /// Digest and token depend on the batch alone: a sampled token is the position it stands at.
  static std::optional<v1::StepResult> Answer(const v1::Assignment& assignment,
                                              const v1::StepBatch& batch);

  void Send(const v1::JoinRequest& message);
  /// Both streams break, as when the process dies.
  void Kill();
  /// Only the Execute stream breaks.
  void BreakExecute();

  /// What came down the Join stream so far.
  std::vector<v1::JoinResponse> messages() const;
  /// The batches that came, serialised.
  std::vector<std::string> batches() const;
  /// False if no message of this kind has come by the deadline.
  bool WaitForMessage(v1::JoinResponse::MessageCase kind, absl::Duration timeout) const;
  /// How the Join stream ended; nullopt if it has not by the deadline.
  std::optional<grpc::Status> WaitForEnd(absl::Duration timeout) const;

 private:
  void RunControl();
  void OpenExecute(uint64_t epoch);
  void RunExecute(const v1::Assignment& assignment, std::shared_ptr<grpc::ClientContext> context);

  const Options options_;
  const std::unique_ptr<v1::ClusterService::Stub> stub_;
  grpc::ClientContext join_context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::JoinRequest, v1::JoinResponse>> join_;
  absl::Mutex write_mutex_;

  mutable absl::Mutex mutex_;
  std::vector<v1::JoinResponse> messages_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> batches_ ABSL_GUARDED_BY(mutex_);
  v1::Assignment assignment_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<grpc::ClientContext> execute_context_ ABSL_GUARDED_BY(mutex_);
  std::optional<grpc::Status> end_ ABSL_GUARDED_BY(mutex_);

  // Started and joined by the control thread.
  std::thread execute_;
  std::thread control_;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CLUSTER_TESTING_FAKE_WORKER_H_
