// What clients' requests are handed to: one group of ranks (GroupEngine) or several behind a router
// (ReplicatedEngine).
#ifndef LOCKSTEP_COORDINATOR_ENGINE_ENGINE_H_
#define LOCKSTEP_COORDINATOR_ENGINE_ENGINE_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "coordinator/engine/engine_request.h"

namespace lockstep::coordinator {

/// For AdminService and metrics; one consistent moment. A request of n choices counts n times among
/// those that run or wait.
struct EngineStats {
  int64_t running_requests = 0;  // holding blocks
  int64_t waiting_requests = 0;
  int64_t kv_blocks = 0;         // 0 without a group
  int64_t kv_blocks_used = 0;    // that a running request holds
  int64_t kv_blocks_cached = 0;  // that nobody holds, kept for their prefixes
  int64_t outstanding_batches = 0;
  // Since the start.
  int64_t finished_requests = 0;  // in whichever way
  int64_t generated_tokens = 0;   // delivered
  int64_t preemptions = 0;
  int64_t prompt_tokens = 0;  // of admissions, the ones after a preemption or a loss included
  int64_t cached_tokens = 0;  // of them, found in the prefix cache
};

/// Thread-safe; nothing blocks.
class Engine {
 public:
  virtual ~Engine() = default;

  /// Queues a request; `sink` may hear of it before this returns. On an error, and then only, the
  /// sink hears nothing. ResourceExhausted when the queue is full; OutOfRange, with the numbers,
  /// when the request exceeds the context or the whole key-value pool of the group that is formed;
  /// Unavailable once shut down.
  virtual absl::StatusOr<RequestId> Submit(EngineRequest request,
                                           std::shared_ptr<RequestSink> sink) = 0;

  /// Ends all choices of a request with Cancelled; their blocks are free for the next batch to be
  /// composed. Does nothing if the request has ended.
  virtual void Cancel(RequestId id) = 0;

  /// Blocks while a step's updates are being delivered for the engine of this request, a few
  /// microseconds each. A thread that every delivered update would wake calls it first thing: then
  /// it is woken once a step, not once an update. Not from within OnUpdate.
  virtual void AwaitDelivery(RequestId id) = 0;

  virtual EngineStats Stats() const = 0;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_ENGINE_ENGINE_H_
