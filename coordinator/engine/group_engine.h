// The engine of one rank group: turns requests into steps, and the steps' tokens into updates.
//
// It keeps every request's prompt and generated tokens, so that a group may go away at any time:
// running requests then wait, and are prefilled again from their tokens when the next group forms.
// A client sees a pause. As long as there is no group, requests queue.
//
// Asynchronous steps: batch n+1 is composed and sent while n runs, up to pp_size + 1 batches. A
// sequence's next decode may be queued before its last token is known; a token that overran a stop
// is thrown away.
//
// Shared prefixes: a block that is full and whose step has been answered is published in the prefix
// cache, and a sequence that begins with the same tokens starts behind them. So the choices of a
// request share one prefill: choice 0 runs first, the others become admissible once it has
// published the prompt.
//
// Threads: everything happens in the calling thread, under one mutex, and nothing blocks. Whoever
// makes progress possible (a step's end, a new request, a freed block) composes and submits the
// next batches itself; only then are sinks called, without the mutex. A timer thread ends requests
// whose deadline has passed. Thread-safe throughout.
// Lock order: RankGroup::Submit is called under the engine's mutex, so it must not call back, and
// a RankGroup must hold no lock that Submit takes while it calls the observer.
#ifndef LOCKSTEP_COORDINATOR_ENGINE_GROUP_ENGINE_H_
#define LOCKSTEP_COORDINATOR_ENGINE_GROUP_ENGINE_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/random/random.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "coordinator/engine/active_choice.h"
#include "coordinator/engine/deadline_timer.h"
#include "coordinator/engine/engine.h"
#include "coordinator/engine/engine_request.h"
#include "coordinator/engine/prefix_cache.h"
#include "coordinator/engine/rank_group.h"
#include "coordinator/engine/router.h"
#include "coordinator/engine/scheduler.h"
#include "proto/lockstep/v1/cluster.pb.h"

namespace lockstep::coordinator {

struct EngineOptions {
  /// Most requests waiting at once (--max-queue); running ones do not count.
  int64_t max_queue = 1024;
  /// Whether requests share prefixes with others (--enable-prefix-caching); the choices of one
  /// always do.
  bool enable_prefix_caching = true;
  /// Most batches outstanding, to compare with; nullopt: one more than there are stages.
  std::optional<int> max_outstanding_batches;
  /// Ids are first_id, first_id + id_stride, ...: several engines may divide them up.
  uint64_t first_id = 1;
  uint64_t id_stride = 1;
};

class GroupEngine final : public Engine, public GroupObserver {
 public:
  explicit GroupEngine(EngineOptions options);
  /// Shuts down. The group must not call any more.
  ~GroupEngine() override;
  GroupEngine(const GroupEngine&) = delete;
  GroupEngine& operator=(const GroupEngine&) = delete;

  absl::StatusOr<RequestId> Submit(EngineRequest request,
                                   std::shared_ptr<RequestSink> sink) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Cancel(RequestId id) override ABSL_LOCKS_EXCLUDED(mutex_);
  void AwaitDelivery(RequestId id) override ABSL_LOCKS_EXCLUDED(delivery_mutex_);
  EngineStats Stats() const override ABSL_LOCKS_EXCLUDED(mutex_);

  /// Ends every request with Unavailable and takes no more.
  void Shutdown() ABSL_LOCKS_EXCLUDED(mutex_);

  /// What a router needs to know to send a request with this prompt here.
  ReplicaView View(std::span<const int32_t> prompt) const ABSL_LOCKS_EXCLUDED(mutex_);

  void OnGroupFormed(std::shared_ptr<RankGroup> group) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnStepDone(const v1::StepResult& result) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnGroupLost(uint64_t epoch, const absl::Status& reason) override ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using ChoicePtr = std::shared_ptr<ActiveChoice>;

  // The choices of a request that have not ended, in order.
  struct LiveRequest {
    std::vector<ChoicePtr> choices;
    bool started = false;  // one of them has been admitted
  };

  // An update on its way out, for delivery once the mutex is released.
  struct Delivery {
    ChoicePtr choice;
    RequestUpdate update;
  };
  using Deliveries = std::vector<Delivery>;

  // A batch that was submitted and not answered, with the sequences in it.
  struct OutstandingBatch {
    struct Part {
      uint64_t sequence_id = 0;
      int64_t rows = 0;  // that the sequence has when the batch is done
      bool sampled = false;
    };
    uint64_t step_id = 0;
    std::vector<Part> parts;
  };

  // Hands updates to the sinks and ends the choices whose sinks want no more.
  void Deliver(Deliveries deliveries) ABSL_LOCKS_EXCLUDED(mutex_);
  // The same for the updates of a step.
  void DeliverStep(Deliveries deliveries) ABSL_LOCKS_EXCLUDED(mutex_, delivery_mutex_);
  // The choices whose sinks want no more.
  static std::vector<ChoicePtr> HandOut(Deliveries deliveries);
  void EndStopped(std::vector<ChoicePtr> stopped) ABSL_LOCKS_EXCLUDED(mutex_);
  void EndExpired() ABSL_LOCKS_EXCLUDED(mutex_);
  // Everything of the epoch is forgotten; running choices wait. The caller drops the result once
  // the mutex is released, since it may be the last reference.
  std::shared_ptr<RankGroup> DropGroup() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsLive(const ActiveChoice& choice) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes the choice's blocks, forgets it and makes its last update.
  void End(const ChoicePtr& choice, absl::Status status, RequestUpdate update,
           Deliveries& deliveries, v1::FinishReason reason = v1::FINISH_REASON_UNSPECIFIED)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndRequest(RequestId id, const absl::Status& status, Deliveries& deliveries)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // OutOfRange, with the numbers, if the group can never run such a request.
  absl::Status CheckFits(const EngineRequest& request) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndNewcomersThatNeverFit(Deliveries& deliveries) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Composes and submits batches as long as there is work and room for one more.
  void SubmitBatches() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int MaxOutstanding() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // snapshot_, and candidates_ for its waiting sequences.
  void FillSnapshot() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FillCandidates() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether the choice need not wait for choice 0 to publish the prompt.
  bool MayStart(const ActiveChoice& choice) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Fills batch_ and pending_.
  void CarryOut(const ScheduleDecision& decision) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SubmitBatch() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AddChunk(ActiveChoice& choice, const ScheduledChunk& plan)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Admit(const ChoicePtr& choice, const CachedPrefix& prefix)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Leaves it in running_, so that indices hold, until the decision has been carried out.
  void Preempt(const ChoicePtr& choice) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes blocks and sequence id away; the workers hear of it with the next batch.
  void Release(ActiveChoice& choice) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  void ApplyResult(const v1::StepResult& result, Deliveries& deliveries)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ApplyToken(const v1::SampledToken& token, uint64_t step_id, absl::Time now,
                  Deliveries& deliveries) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // With Internal: a sequence that waits for a token that never comes would wait for ever.
  void EndUnanswered(const OutstandingBatch& batch, Deliveries& deliveries)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Null if its choice has ended or was preempted.
  ChoicePtr FindSequence(uint64_t sequence_id) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const EngineOptions options_;

  // Held while a step's updates are delivered; nothing else is taken under it but what sinks take.
  absl::Mutex delivery_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);
  mutable absl::Mutex mutex_;
  absl::BitGen seeds_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_request_ ABSL_GUARDED_BY(mutex_);
  bool shut_down_ ABSL_GUARDED_BY(mutex_) = false;
  absl::flat_hash_map<RequestId, LiveRequest> requests_ ABSL_GUARDED_BY(mutex_);
  // Requests of which nothing has been admitted yet.
  int64_t queued_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<QueueRank, ChoicePtr> waiting_ ABSL_GUARDED_BY(mutex_);
  // By rank.
  std::vector<ChoicePtr> running_ ABSL_GUARDED_BY(mutex_);
  std::set<std::pair<absl::Time, RequestId>> deadlines_ ABSL_GUARDED_BY(mutex_);
  EngineStats totals_ ABSL_GUARDED_BY(mutex_);

  // Of the epoch; null without a group.
  std::shared_ptr<RankGroup> group_ ABSL_GUARDED_BY(mutex_);
  PrefixCache cache_ ABSL_GUARDED_BY(mutex_){0};
  uint64_t next_step_ ABSL_GUARDED_BY(mutex_) = 1;
  uint64_t next_sequence_ ABSL_GUARDED_BY(mutex_) = 1;
  absl::flat_hash_map<uint64_t, ChoicePtr> by_sequence_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint64_t> freed_sequences_ ABSL_GUARDED_BY(mutex_);
  std::deque<OutstandingBatch> outstanding_ ABSL_GUARDED_BY(mutex_);
  // Kept for their memory: one is filled per step.
  v1::StepBatch batch_ ABSL_GUARDED_BY(mutex_);
  OutstandingBatch pending_ ABSL_GUARDED_BY(mutex_);
  ScheduleSnapshot snapshot_ ABSL_GUARDED_BY(mutex_);
  struct Candidate {
    ChoicePtr choice;
    CachedPrefix prefix;
  };
  std::vector<Candidate> candidates_ ABSL_GUARDED_BY(mutex_);

  // Last, so that its thread ends first.
  DeadlineTimer timer_;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_ENGINE_GROUP_ENGINE_H_
