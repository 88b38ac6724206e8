// The engine's doors: requests in, the group's events in, updates out. How batches are composed and
// results applied is in engine_steps.cc.
#include "coordinator/engine/engine.h"

#include <glog/logging.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace lockstep::coordinator {

Engine::Engine(EngineOptions options) : options_(options), timer_([this] { EndExpired(); }) {}

Engine::~Engine() { Shutdown(); }

absl::StatusOr<RequestId> Engine::Submit(EngineRequest request, std::shared_ptr<RequestSink> sink) {
  const absl::Time now = absl::Now();
  if (request.deadline <= now) {
    return absl::DeadlineExceededError("the deadline had passed when the request came in");
  }
  absl::MutexLock lock(&mutex_);
  if (shut_down_) return absl::UnavailableError("the coordinator is shutting down");
  if (static_cast<int64_t>(waiting_.size()) >= options_.max_queue) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the queue is full: ", waiting_.size(), " requests wait and ", running_.size(),
                     " run (--max-queue=", options_.max_queue, ")"));
  }
  if (absl::Status fits =
          CheckFits(static_cast<int64_t>(request.prompt.size()), request.max_tokens);
      !fits.ok()) {
    return fits;
  }
  if (!request.sampling.has_seed()) request.sampling.set_seed(absl::Uniform<uint64_t>(seeds_));
  const RequestId id{next_request_++};
  const absl::Time deadline = request.deadline;
  auto active = std::make_shared<ActiveRequest>(id, std::move(request), std::move(sink), now);
  requests_.emplace(id, active);
  waiting_.emplace(id, std::move(active));
  if (deadline != absl::InfiniteFuture()) {
    deadlines_.emplace(deadline, id);
    timer_.Arm(deadline);
  }
  SubmitBatches();
  return id;
}

void Engine::Cancel(RequestId id) {
  Deliveries deliveries;
  {
    absl::MutexLock lock(&mutex_);
    if (!requests_.contains(id)) return;
    End(id, absl::CancelledError("the request was cancelled"), {}, deliveries);
    SubmitBatches();
  }
  Deliver(std::move(deliveries));
}

void Engine::Shutdown() {
  Deliveries deliveries;
  {
    absl::MutexLock lock(&mutex_);
    shut_down_ = true;
    while (!requests_.empty()) {
      End(requests_.begin()->first, absl::UnavailableError("the coordinator is shutting down"), {},
          deliveries);
    }
  }
  Deliver(std::move(deliveries));
}

EngineStats Engine::Stats() const {
  absl::MutexLock lock(&mutex_);
  EngineStats stats = totals_;
  stats.running_requests = static_cast<int64_t>(running_.size());
  stats.waiting_requests = static_cast<int64_t>(waiting_.size());
  stats.kv_blocks = pool_.num_blocks();
  stats.kv_blocks_used = pool_.used_blocks();
  stats.outstanding_batches = static_cast<int64_t>(outstanding_.size());
  return stats;
}

void Engine::OnGroupFormed(std::shared_ptr<RankGroup> group) {
  Deliveries deliveries;
  std::shared_ptr<RankGroup> previous;
  {
    absl::MutexLock lock(&mutex_);
    previous = DropGroup();
    if (shut_down_) return;
    group_ = std::move(group);
    pool_ = BlockPool(group_->limits().kv_blocks);
    next_step_ = 1;
    next_sequence_ = 1;
    EndNewcomersThatNeverFit(deliveries);
    SubmitBatches();
  }
  Deliver(std::move(deliveries));
}

void Engine::OnStepDone(const v1::StepResult& result) {
  Deliveries deliveries;
  {
    absl::MutexLock lock(&mutex_);
    if (group_ == nullptr || result.epoch() != group_->limits().epoch) return;
    ApplyResult(result, deliveries);
    SubmitBatches();
  }
  Deliver(std::move(deliveries));
}

void Engine::OnGroupLost(uint64_t epoch, const absl::Status& reason) {
  std::shared_ptr<RankGroup> lost;
  absl::MutexLock lock(&mutex_);
  if (group_ == nullptr || epoch != group_->limits().epoch) return;
  LOG(INFO) << "epoch " << epoch << " is over (" << reason << "): " << running_.size()
            << " running requests wait for the next one";
  lost = DropGroup();
}

void Engine::Deliver(Deliveries deliveries) {
  for (Delivery& delivery : deliveries) delivery.sink->OnUpdate(std::move(delivery.update));
}

void Engine::EndExpired() {
  Deliveries deliveries;
  {
    absl::MutexLock lock(&mutex_);
    const absl::Time now = absl::Now();
    while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
      End(deadlines_.begin()->second,
          absl::DeadlineExceededError("the request's deadline has passed"), {}, deliveries);
    }
    if (!deadlines_.empty()) timer_.Arm(deadlines_.begin()->first);
    SubmitBatches();
  }
  Deliver(std::move(deliveries));
}

std::shared_ptr<RankGroup> Engine::DropGroup() {
  for (const RequestPtr& request : running_) {
    request->Stop();
    waiting_.emplace(request->id(), request);
  }
  running_.clear();
  by_sequence_.clear();
  freed_sequences_.clear();
  outstanding_.clear();
  pool_ = BlockPool(0);
  return std::exchange(group_, nullptr);
}

void Engine::End(RequestId id, absl::Status status, RequestUpdate update, Deliveries& deliveries,
                 v1::FinishReason reason) {
  const RequestPtr request = std::move(requests_.extract(id).mapped());
  if (request->sequence_id()) {
    Release(*request);
    std::erase(running_, request);
  } else {
    waiting_.erase(id);
  }
  deadlines_.erase({request->request().deadline, id});
  ++totals_.finished_requests;
  update.outcome = request->MakeOutcome(std::move(status), reason, absl::Now());
  deliveries.push_back({request->sink(), std::move(update)});
}

absl::Status Engine::CheckFits(int64_t prompt_tokens, int64_t max_tokens) const {
  if (group_ == nullptr) return absl::OkStatus();
  const GroupLimits& limits = group_->limits();
  const int64_t tokens = prompt_tokens + max_tokens;
  const std::string asked = absl::StrCat(
      prompt_tokens, " prompt tokens and max_tokens = ", max_tokens, " make ", tokens, " tokens; ");
  if (tokens > limits.context_tokens) {
    return absl::OutOfRangeError(
        absl::StrCat(asked, "the context has room for ", limits.context_tokens));
  }
  // The last token's keys and values are never computed.
  if (const int64_t room = limits.kv_blocks * kBlockTokens; tokens - 1 > room) {
    return absl::OutOfRangeError(absl::StrCat(asked, "the whole key-value pool has room for ", room,
                                              " (", limits.kv_blocks, " blocks of ", kBlockTokens,
                                              ")"));
  }
  return absl::OkStatus();
}

void Engine::EndNewcomersThatNeverFit(Deliveries& deliveries) {
  std::vector<std::pair<RequestId, absl::Status>> misfits;
  for (const auto& [id, request] : waiting_) {
    if (request->started()) continue;
    absl::Status fits = CheckFits(request->prompt_tokens(), request->request().max_tokens);
    if (!fits.ok()) misfits.emplace_back(id, std::move(fits));
  }
  for (auto& [id, status] : misfits) End(id, std::move(status), {}, deliveries);
}

}  // namespace lockstep::coordinator
