// A rank group without ranks: runs batches on a FakeModel, reading every token back through block
// tables from one shared "cache", and notes each breach of the wire's rules.
#ifndef LOCKSTEP_COORDINATOR_ENGINE_TESTING_FAKE_RANK_GROUP_H_
#define LOCKSTEP_COORDINATOR_ENGINE_TESTING_FAKE_RANK_GROUP_H_

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "coordinator/engine/rank_group.h"
#include "coordinator/engine/testing/fake_model.h"
#include "proto/lockstep/v1/cluster.pb.h"

namespace lockstep::coordinator {

/// Thread-safe. Steps run in the thread that calls Step, or in one of its own (RunInBackground).
class FakeRankGroup final : public RankGroup {
 public:
  /// `observer` must outlive the group's steps.
  FakeRankGroup(const GroupLimits& limits, FakeModel model, GroupObserver& observer);
  /// Ends the background thread; the observer hears nothing of it.
  ~FakeRankGroup() override;

  const GroupLimits& limits() const override { return limits_; }
  void Submit(const v1::StepBatch& batch) override ABSL_LOCKS_EXCLUDED(mutex_);

  /// Runs the oldest outstanding batch and reports it. False if there is none.
  bool Step() ABSL_LOCKS_EXCLUDED(mutex_);
  /// Steps until there is no batch.
  void RunUntilIdle();
  /// From now on steps run by themselves, as soon as they are submitted.
  void RunInBackground();
  /// Ends the epoch, as a rank's death would: outstanding batches are never answered.
  void Lose() ABSL_LOCKS_EXCLUDED(mutex_);

  /// The next step leaves this sequence's token out, as a broken worker might.
  void ForgetToken(uint64_t sequence_id) ABSL_LOCKS_EXCLUDED(mutex_);

  int outstanding() const ABSL_LOCKS_EXCLUDED(mutex_);
  /// The oldest outstanding batches first.
  std::vector<v1::StepBatch> outstanding_batches() const ABSL_LOCKS_EXCLUDED(mutex_);
  int most_outstanding() const ABSL_LOCKS_EXCLUDED(mutex_);
  int64_t steps() const ABSL_LOCKS_EXCLUDED(mutex_);
  /// Breaches of cluster.proto, in words; empty if all is well.
  std::vector<std::string> violations() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Sequence {
    v1::NewSequence start;
    std::vector<int32_t> block_table;
    int64_t rows = 0;
    std::optional<int32_t> last_sampled;
  };

  // One of a batch that is being checked or run.
  v1::StepResult Execute(const v1::StepBatch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Free(const v1::StepBatch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Create(const v1::StepBatch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RunChunk(const v1::SequenceChunk& chunk, v1::StepResult& result)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ShareBlocks(const v1::NewSequence& start, Sequence& sequence)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AddBlocks(const v1::SequenceChunk& chunk, Sequence& sequence)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WriteRows(const v1::SequenceChunk& chunk, Sequence& sequence)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::vector<int32_t> ReadRows(const Sequence& sequence) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReportPrompt(const v1::SequenceChunk& chunk, const Sequence& sequence,
                    v1::StepResult& result) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Sample(Sequence& sequence, v1::StepResult& result) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Require(bool rule, const std::string& breach) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const GroupLimits limits_;
  const FakeModel model_;
  GroupObserver& observer_;

  // Held while a step runs and reports, so that reports stay in order.
  absl::Mutex step_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);
  mutable absl::Mutex mutex_;
  std::deque<v1::StepBatch> queue_ ABSL_GUARDED_BY(mutex_);
  bool lost_ ABSL_GUARDED_BY(mutex_) = false;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t last_submitted_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t steps_ ABSL_GUARDED_BY(mutex_) = 0;
  int most_outstanding_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t highest_sequence_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, Sequence> sequences_ ABSL_GUARDED_BY(mutex_);
  std::vector<int> block_holders_ ABSL_GUARDED_BY(mutex_);
  std::vector<int32_t> cache_ ABSL_GUARDED_BY(mutex_);  // a token per slot
  std::set<uint64_t> forgotten_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> violations_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_ENGINE_TESTING_FAKE_RANK_GROUP_H_
