// The border between the engine, which decides what to compute, and the cluster, which knows who
// computes it. The cluster gives the engine one RankGroup per epoch.
#ifndef LOCKSTEP_COORDINATOR_ENGINE_RANK_GROUP_H_
#define LOCKSTEP_COORDINATOR_ENGINE_RANK_GROUP_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "proto/lockstep/v1/cluster.pb.h"

namespace lockstep::coordinator {

/// What a formed group can do; fixed for its epoch.
struct GroupLimits {
  uint64_t epoch = 0;
  int pp_size = 1;
  int64_t kv_blocks = 0;         // of kernels::kBlockTokens tokens, the same on every rank
  int64_t max_batch_tokens = 0;  // rows of one step
  int64_t max_sequences = 0;     // alive at once
  int64_t context_tokens = 0;    // of one sequence
};

/// The ranks of one TP x PP group in one epoch.
class RankGroup {
 public:
  virtual ~RankGroup() = default;
  virtual const GroupLimits& limits() const = 0;
  /// Sends the batch to every rank; epoch and step_id (1, 2, ... without gaps) are the caller's to
  /// set. Never blocks; thread-safe; does nothing once the group is lost.
  virtual void Submit(const v1::StepBatch& batch) = 0;
};

/// What the cluster tells the engine. Called from the cluster's threads, one call at a time, in the
/// order formed -> steps... -> lost -> formed (of a higher epoch) -> ...; must return quickly.
class GroupObserver {
 public:
  virtual ~GroupObserver() = default;
  virtual void OnGroupFormed(std::shared_ptr<RankGroup> group) = 0;
  /// All ranks have answered a step; `result` is the reporting rank's. In order of step_id.
  virtual void OnStepDone(const v1::StepResult& result) = 0;
  /// The epoch is over; steps that were submitted and not answered never will be.
  virtual void OnGroupLost(uint64_t epoch, const absl::Status& reason) = 0;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_ENGINE_RANK_GROUP_H_
