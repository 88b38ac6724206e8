// The engine's rank group of one epoch, over the ranks' Execute streams.
#ifndef LOCKSTEP_COORDINATOR_CLUSTER_STREAMED_RANK_GROUP_H_
#define LOCKSTEP_COORDINATOR_CLUSTER_STREAMED_RANK_GROUP_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "coordinator/cluster/links.h"
#include "coordinator/cluster/step_collector.h"
#include "coordinator/cluster/step_times.h"
#include "coordinator/engine/rank_group.h"
#include "proto/lockstep/v1/cluster.pb.h"

namespace lockstep::coordinator {

/// Thread-safe. The step path: a stream's thread calls TakeResult, which calls the observer, which
/// calls Submit, which hands the next batch to every stream; no other thread takes part.
class StreamedRankGroup final : public RankGroup,
                                public std::enable_shared_from_this<StreamedRankGroup> {
 public:
  /// Called at most once, without locks, when the ranks' answers are wrong.
  using FailureHandler = std::function<void(uint64_t epoch, const absl::Status& reason)>;

  /// Tokens come from the first rank of the last stage. `observer` must outlive the group's Close.
  StreamedRankGroup(const GroupLimits& limits, uint32_t tp_size, GroupObserver* observer,
                    FailureHandler on_failure);

  const GroupLimits& limits() const override { return limits_; }
  void Submit(const v1::StepBatch& batch) override ABSL_LOCKS_EXCLUDED(submit_mutex_);

  /// Gives the group the stream of a rank; all of them before Announce.
  void AddStream(uint32_t rank, std::shared_ptr<BatchLink> link) ABSL_LOCKS_EXCLUDED(submit_mutex_);
  /// Tells the observer that the group has formed.
  void Announce() ABSL_LOCKS_EXCLUDED(results_mutex_);
  /// A StepResult of `rank`, in the order of its stream.
  void TakeResult(uint32_t rank, v1::StepResult result) ABSL_LOCKS_EXCLUDED(results_mutex_);
  /// When it returns, the observer is not being called and never will be, and Submit does nothing.
  /// Closes the streams with `reason`.
  void Close(const absl::Status& reason) ABSL_LOCKS_EXCLUDED(results_mutex_, submit_mutex_);

  /// By rank.
  std::vector<RankStepTimes> Times() const ABSL_LOCKS_EXCLUDED(times_mutex_);

 private:
  const GroupLimits limits_;
  GroupObserver* const observer_;
  const FailureHandler on_failure_;
  std::atomic<uint64_t> submitted_ = 0;

  // Held while the observer is called, so that it hears one thing at a time; Submit never takes it.
  absl::Mutex results_mutex_ ABSL_ACQUIRED_BEFORE(submit_mutex_);
  StepCollector collector_ ABSL_GUARDED_BY(results_mutex_);
  bool results_closed_ ABSL_GUARDED_BY(results_mutex_) = false;

  absl::Mutex submit_mutex_;
  // By rank; null before AddStream, empty after Close.
  std::vector<std::shared_ptr<BatchLink>> links_ ABSL_GUARDED_BY(submit_mutex_);

  mutable absl::Mutex times_mutex_;
  std::vector<StepTimes> times_ ABSL_GUARDED_BY(times_mutex_);
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CLUSTER_STREAMED_RANK_GROUP_H_
