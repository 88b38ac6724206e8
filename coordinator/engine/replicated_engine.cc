// Ids tell the replica: it is the id less one, modulo their number.
#include "coordinator/engine/replicated_engine.h"

#include <glog/logging.h>

#include <utility>

#include "coordinator/engine/router.h"

namespace lockstep::coordinator {

ReplicatedEngine::ReplicatedEngine(int replicas, EngineOptions options) {
  CHECK_GE(replicas, 1);
  options.max_queue = (options.max_queue + replicas - 1) / replicas;
  options.id_stride = replicas;
  for (int i = 0; i < replicas; ++i) {
    options.first_id = i + 1;
    replicas_.push_back(std::make_unique<GroupEngine>(options));
  }
}

absl::StatusOr<RequestId> ReplicatedEngine::Submit(EngineRequest request,
                                                   std::shared_ptr<RequestSink> sink) {
  size_t chosen = 0;
  if (replicas_.size() > 1) {
    std::vector<ReplicaView> views;
    for (const auto& replica : replicas_) views.push_back(replica->View(request.prompt));
    chosen = ChooseReplica(views);
  }
  return replicas_[chosen]->Submit(std::move(request), std::move(sink));
}

GroupEngine& ReplicatedEngine::ReplicaOf(RequestId id) {
  return *replicas_[(static_cast<uint64_t>(id) - 1) % replicas_.size()];
}

void ReplicatedEngine::Cancel(RequestId id) { ReplicaOf(id).Cancel(id); }

void ReplicatedEngine::AwaitDelivery(RequestId id) { ReplicaOf(id).AwaitDelivery(id); }

EngineStats ReplicatedEngine::Stats() const {
  EngineStats sum;
  for (const auto& replica : replicas_) {
    const EngineStats stats = replica->Stats();
    sum.running_requests += stats.running_requests;
    sum.waiting_requests += stats.waiting_requests;
    sum.kv_blocks += stats.kv_blocks;
    sum.kv_blocks_used += stats.kv_blocks_used;
    sum.kv_blocks_cached += stats.kv_blocks_cached;
    sum.outstanding_batches += stats.outstanding_batches;
    sum.finished_requests += stats.finished_requests;
    sum.generated_tokens += stats.generated_tokens;
    sum.preemptions += stats.preemptions;
    sum.prompt_tokens += stats.prompt_tokens;
    sum.cached_tokens += stats.cached_tokens;
  }
  return sum;
}

void ReplicatedEngine::Shutdown() {
  for (const auto& replica : replicas_) replica->Shutdown();
}

}  // namespace lockstep::coordinator
