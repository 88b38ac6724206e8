// Everything that belongs to one epoch on this rank: its communicators, its state and the loop that
// runs its steps.
#ifndef LOCKSTEP_WORKER_EPOCH_RUN_H_
#define LOCKSTEP_WORKER_EPOCH_RUN_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/dtype.h"
#include "kernels/thread_pool.h"
#include "model/decoder_spec.h"
#include "model/rank_shard.h"
#include "proto/lockstep/v1/cluster.pb.h"
#include "worker/coordinator_client.h"
#include "worker/held_model.h"
#include "worker/progress.h"
#include "worker/rank_groups.h"
#include "worker/shard_weights.h"
#include "worker/step_runner.h"

namespace lockstep::worker {

/// Made by the control thread; Form and Serve run on the compute thread, in this order, once each;
/// Abort may come from any thread at any time and ends either of them soon: within 10 ms where it
/// waits for peers, a layer where it computes, a megabyte where it loads.
class EpochRun {
 public:
  /// Checks the assignment and opens the communicators' endpoints. Errors: ParseDecoderSpec's;
  /// InvalidArgument for a plan, a dtype or limits that make no sense; the endpoints'.
  static absl::StatusOr<std::shared_ptr<EpochRun>> Create(const v1::Assignment& assignment,
                                                          const std::string& data_interface);

  uint64_t epoch() const { return assignment_.epoch(); }
  uint32_t rank() const { return assignment_.rank(); }
  /// What to answer to the assignment.
  std::map<std::string, std::string> addresses() const { return setup_->addresses(); }

  /// Connects to the peers, sees to the weights, allocates. Blocks.
  absl::StatusOr<v1::Ready> Form(const v1::CollectivePeers& peers, HeldModel& held,
                                 kernels::ThreadPool& pool, Progress& progress,
                                 const LoadProgressFn& on_load);

  /// Runs batches from the stream until it ends. OK when the coordinator ended it in good order;
  /// else the first error of the stream or of a step.
  absl::Status Serve(BatchStream& stream, Progress& progress);

  void Abort(const std::string& reason);

 private:
  EpochRun(const v1::Assignment& assignment, model::DecoderSpec spec, DType dtype);
  SequenceLimits Limits() const;
  bool aborted() const { return aborted_.load(std::memory_order_relaxed); }
  absl::Status CheckNotAborted();
  absl::StatusOr<v1::StepResult> TimedStep(const v1::StepBatch& batch, int64_t previous_end_ns);

  const absl::Time assigned_at_;
  const v1::Assignment assignment_;
  const model::DecoderSpec spec_;
  const model::RankShard shard_;
  const DType dtype_;
  std::unique_ptr<RankGroupsSetup> setup_;
  std::unique_ptr<StepRunner> runner_;  // after Form

  std::atomic<bool> aborted_{false};
  std::mutex mutex_;
  std::string abort_reason_;       // guarded by mutex_
  BatchStream* stream_ = nullptr;  // while Serve runs; guarded by mutex_
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_EPOCH_RUN_H_
