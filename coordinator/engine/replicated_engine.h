// The engines of all replicas as one: a router chooses where each request goes, and there it stays.
#ifndef LOCKSTEP_COORDINATOR_ENGINE_REPLICATED_ENGINE_H_
#define LOCKSTEP_COORDINATOR_ENGINE_REPLICATED_ENGINE_H_

#include <memory>
#include <vector>

#include "coordinator/engine/engine.h"
#include "coordinator/engine/group_engine.h"

namespace lockstep::coordinator {

/// Thread-safe. Replicas know nothing of each other: a lost one keeps its requests until it forms
/// again, and the others go on.
class ReplicatedEngine final : public Engine {
 public:
  /// `replicas` is at least 1; each gets an equal share of max_queue, rounded up.
  ReplicatedEngine(int replicas, EngineOptions options);

  absl::StatusOr<RequestId> Submit(EngineRequest request,
                                   std::shared_ptr<RequestSink> sink) override;
  void Cancel(RequestId id) override;
  void AwaitDelivery(RequestId id) override;
  /// The sums over all replicas.
  EngineStats Stats() const override;

  /// Ends every request with Unavailable and takes no more.
  void Shutdown();

  int size() const { return static_cast<int>(replicas_.size()); }
  GroupEngine& replica(int index) { return *replicas_[index]; }
  const GroupEngine& replica(int index) const { return *replicas_[index]; }

 private:
  GroupEngine& ReplicaOf(RequestId id);

  std::vector<std::unique_ptr<GroupEngine>> replicas_;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_ENGINE_REPLICATED_ENGINE_H_
