// The engine: turns requests into steps of a rank group, and the steps' tokens into updates.
//
// It keeps every request's prompt and generated tokens, so that a group may go away at any time:
// running requests then wait, and are prefilled again from their tokens when the next group forms.
// A client sees a pause. As long as there is no group, requests queue.
//
// Asynchronous steps: batch n+1 is composed and sent while n runs, up to pp_size + 1 batches. A
// sequence's next decode may be queued before its last token is known; a token that overran a stop
// is thrown away.
//
// Threads: everything happens in the calling thread, under one mutex, and nothing blocks. Whoever
// makes progress possible (a step's end, a new request, a freed block) composes and submits the
// next batches itself; only then are sinks called, without the mutex. A timer thread ends requests
// whose deadline has passed. Thread-safe throughout.
// Lock order: RankGroup::Submit is called under the engine's mutex, so it must not call back, and
// a RankGroup must hold no lock that Submit takes while it calls the observer.
#ifndef LOCKSTEP_COORDINATOR_ENGINE_ENGINE_H_
#define LOCKSTEP_COORDINATOR_ENGINE_ENGINE_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/random/random.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "coordinator/engine/active_request.h"
#include "coordinator/engine/block_pool.h"
#include "coordinator/engine/deadline_timer.h"
#include "coordinator/engine/engine_request.h"
#include "coordinator/engine/rank_group.h"
#include "coordinator/engine/scheduler.h"
#include "proto/lockstep/v1/cluster.pb.h"

namespace lockstep::coordinator {

struct EngineOptions {
  /// Most requests waiting at once (--max-queue); running ones do not count.
  int64_t max_queue = 1024;
};

/// For AdminService and metrics; one consistent moment.
struct EngineStats {
  int64_t running_requests = 0;  // holding blocks
  int64_t waiting_requests = 0;
  int64_t kv_blocks = 0;  // 0 without a group
  int64_t kv_blocks_used = 0;
  int64_t outstanding_batches = 0;
  // Since the start.
  int64_t finished_requests = 0;  // in whichever way
  int64_t generated_tokens = 0;   // delivered
  int64_t preemptions = 0;
};

class Engine final : public GroupObserver {
 public:
  explicit Engine(EngineOptions options);
  /// Shuts down. The group must not call any more.
  ~Engine() override;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// Queues a request; `sink` may hear of it before this returns. On an error, and then only, the
  /// sink hears nothing. ResourceExhausted when the queue is full; OutOfRange, with the numbers,
  /// when the request exceeds the context or the whole key-value pool of the group that is formed;
  /// Unavailable after Shutdown.
  absl::StatusOr<RequestId> Submit(EngineRequest request, std::shared_ptr<RequestSink> sink)
      ABSL_LOCKS_EXCLUDED(mutex_);

  /// Ends a request with Cancelled; its blocks are free for the next batch to be composed. Does
  /// nothing if the request has ended.
  void Cancel(RequestId id) ABSL_LOCKS_EXCLUDED(mutex_);

  /// Ends every request with Unavailable and takes no more.
  void Shutdown() ABSL_LOCKS_EXCLUDED(mutex_);

  EngineStats Stats() const ABSL_LOCKS_EXCLUDED(mutex_);

  void OnGroupFormed(std::shared_ptr<RankGroup> group) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnStepDone(const v1::StepResult& result) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnGroupLost(uint64_t epoch, const absl::Status& reason) override ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using RequestPtr = std::shared_ptr<ActiveRequest>;

  // An update on its way out, for delivery once the mutex is released.
  struct Delivery {
    std::shared_ptr<RequestSink> sink;
    RequestUpdate update;
  };
  using Deliveries = std::vector<Delivery>;

  // A batch that was submitted and not answered, with the sequences that it samples for.
  struct OutstandingBatch {
    uint64_t step_id = 0;
    std::vector<uint64_t> sampled_sequences;
  };

  static void Deliver(Deliveries deliveries);
  void EndExpired() ABSL_LOCKS_EXCLUDED(mutex_);
  // Everything of the epoch is forgotten; running requests wait. The caller drops the result once
  // the mutex is released, since it may be the last reference.
  std::shared_ptr<RankGroup> DropGroup() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes the request's blocks, forgets it and makes its last update.
  void End(RequestId id, absl::Status status, RequestUpdate update, Deliveries& deliveries,
           v1::FinishReason reason = v1::FINISH_REASON_UNSPECIFIED)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // OutOfRange, with the numbers, if the group can never run such a request.
  absl::Status CheckFits(int64_t prompt_tokens, int64_t max_tokens) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndNewcomersThatNeverFit(Deliveries& deliveries) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Composes and submits batches as long as there is work and room for one more.
  void SubmitBatches() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // snapshot_, and candidates_ for its waiting sequences.
  void FillSnapshot() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Fills batch_ and pending_.
  void CarryOut(const ScheduleDecision& decision) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SubmitBatch() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AddChunk(ActiveRequest& request, const ScheduledChunk& plan)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Admit(const RequestPtr& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Leaves it in running_, so that indices hold, until the decision has been carried out.
  void Preempt(const RequestPtr& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes blocks and sequence id away; the workers hear of it with the next batch.
  void Release(ActiveRequest& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  void ApplyResult(const v1::StepResult& result, Deliveries& deliveries)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ApplyToken(const v1::SampledToken& token, uint64_t step_id, absl::Time now,
                  Deliveries& deliveries) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // With Internal: a sequence that waits for a token that never comes would wait for ever.
  void EndUnanswered(const OutstandingBatch& batch, Deliveries& deliveries)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const EngineOptions options_;

  mutable absl::Mutex mutex_;
  absl::BitGen seeds_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_request_ ABSL_GUARDED_BY(mutex_) = 1;
  bool shut_down_ ABSL_GUARDED_BY(mutex_) = false;
  absl::flat_hash_map<RequestId, RequestPtr> requests_ ABSL_GUARDED_BY(mutex_);
  // In the order of arrival.
  std::map<RequestId, RequestPtr> waiting_ ABSL_GUARDED_BY(mutex_);
  std::vector<RequestPtr> running_ ABSL_GUARDED_BY(mutex_);
  std::set<std::pair<absl::Time, RequestId>> deadlines_ ABSL_GUARDED_BY(mutex_);
  EngineStats totals_ ABSL_GUARDED_BY(mutex_);

  // Of the epoch; null without a group.
  std::shared_ptr<RankGroup> group_ ABSL_GUARDED_BY(mutex_);
  BlockPool pool_ ABSL_GUARDED_BY(mutex_){0};
  uint64_t next_step_ ABSL_GUARDED_BY(mutex_) = 1;
  uint64_t next_sequence_ ABSL_GUARDED_BY(mutex_) = 1;
  absl::flat_hash_map<uint64_t, RequestPtr> by_sequence_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint64_t> freed_sequences_ ABSL_GUARDED_BY(mutex_);
  std::deque<OutstandingBatch> outstanding_ ABSL_GUARDED_BY(mutex_);
  // Kept for their memory: one is filled per step.
  v1::StepBatch batch_ ABSL_GUARDED_BY(mutex_);
  OutstandingBatch pending_ ABSL_GUARDED_BY(mutex_);
  ScheduleSnapshot snapshot_ ABSL_GUARDED_BY(mutex_);
  std::vector<RequestPtr> candidates_ ABSL_GUARDED_BY(mutex_);

  // Last, so that its thread ends first.
  DeadlineTimer timer_;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_ENGINE_ENGINE_H_
