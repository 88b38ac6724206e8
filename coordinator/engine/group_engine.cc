// The engine's doors: requests in, the group's events in, updates out. How batches are composed and
// results applied is in group_engine_steps.cc.
#include "coordinator/engine/group_engine.h"

#include <glog/logging.h>

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace lockstep::coordinator {

GroupEngine::GroupEngine(EngineOptions options)
    : options_(options), next_request_(options.first_id), timer_([this] { EndExpired(); }) {}

GroupEngine::~GroupEngine() { Shutdown(); }

absl::StatusOr<RequestId> GroupEngine::Submit(EngineRequest request,
                                              std::shared_ptr<RequestSink> sink) {
  const absl::Time now = absl::Now();
  if (request.deadline <= now) {
    return absl::DeadlineExceededError("the deadline had passed when the request came in");
  }
  absl::MutexLock lock(&mutex_);
  if (shut_down_) return absl::UnavailableError("the coordinator is shutting down");
  if (queued_ >= options_.max_queue) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the queue is full: ", queued_, " requests wait and ", running_.size(),
                     " run (--max-queue=", options_.max_queue, ")"));
  }
  if (absl::Status fits = CheckFits(request); !fits.ok()) return fits;
  if (!request.sampling.has_seed()) request.sampling.set_seed(absl::Uniform<uint64_t>(seeds_));
  const RequestId id{next_request_};
  next_request_ += options_.id_stride;
  const absl::Time deadline = request.deadline;
  const int choices = request.choices;
  auto submitted = std::make_shared<const SubmittedRequest>(SubmittedRequest{
      .id = id,
      .request = std::move(request),
      .sink = std::move(sink),
      .arrival = now,
      .prefix_root = options_.enable_prefix_caching ? PrefixId::kRoot
                                                    : PrivateRoot(static_cast<uint64_t>(id))});
  LiveRequest& live = requests_[id];
  for (int choice = 0; choice < choices; ++choice) {
    live.choices.push_back(std::make_shared<ActiveChoice>(submitted, choice));
    waiting_.emplace(live.choices.back()->rank(), live.choices.back());
  }
  ++queued_;
  if (deadline != absl::InfiniteFuture()) {
    deadlines_.emplace(deadline, id);
    timer_.Arm(deadline);
  }
  SubmitBatches();
  return id;
}

void GroupEngine::Cancel(RequestId id) {
  Deliveries deliveries;
  {
    absl::MutexLock lock(&mutex_);
    if (!requests_.contains(id)) return;
    EndRequest(id, absl::CancelledError("the request was cancelled"), deliveries);
    SubmitBatches();
  }
  Deliver(std::move(deliveries));
}

void GroupEngine::Shutdown() {
  Deliveries deliveries;
  {
    absl::MutexLock lock(&mutex_);
    shut_down_ = true;
    while (!requests_.empty()) {
      EndRequest(requests_.begin()->first,
                 absl::UnavailableError("the coordinator is shutting down"), deliveries);
    }
  }
  Deliver(std::move(deliveries));
}

EngineStats GroupEngine::Stats() const {
  absl::MutexLock lock(&mutex_);
  EngineStats stats = totals_;
  stats.running_requests = static_cast<int64_t>(running_.size());
  stats.waiting_requests = static_cast<int64_t>(waiting_.size());
  stats.kv_blocks = cache_.num_blocks();
  stats.kv_blocks_used = cache_.used_blocks();
  stats.kv_blocks_cached = cache_.cached_blocks();
  stats.outstanding_batches = static_cast<int64_t>(outstanding_.size());
  return stats;
}

ReplicaView GroupEngine::View(std::span<const int32_t> prompt) const {
  absl::MutexLock lock(&mutex_);
  return {.formed = group_ != nullptr,
          .queue_full = queued_ >= options_.max_queue,
          .load = static_cast<int64_t>(running_.size() + waiting_.size()),
          .cached_tokens = cache_.Find(prompt).tokens()};
}

void GroupEngine::OnGroupFormed(std::shared_ptr<RankGroup> group) {
  Deliveries deliveries;
  std::shared_ptr<RankGroup> previous;
  {
    absl::MutexLock lock(&mutex_);
    previous = DropGroup();
    if (shut_down_) return;
    group_ = std::move(group);
    cache_ = PrefixCache(group_->limits().kv_blocks);
    next_step_ = 1;
    next_sequence_ = 1;
    EndNewcomersThatNeverFit(deliveries);
    SubmitBatches();
  }
  Deliver(std::move(deliveries));
}

void GroupEngine::OnStepDone(const v1::StepResult& result) {
  Deliveries deliveries;
  {
    absl::MutexLock lock(&mutex_);
    if (group_ == nullptr || result.epoch() != group_->limits().epoch) return;
    ApplyResult(result, deliveries);
    SubmitBatches();
  }
  DeliverStep(std::move(deliveries));
}

void GroupEngine::OnGroupLost(uint64_t epoch, const absl::Status& reason) {
  std::shared_ptr<RankGroup> lost;
  absl::MutexLock lock(&mutex_);
  if (group_ == nullptr || epoch != group_->limits().epoch) return;
  LOG(INFO) << "epoch " << epoch << " is over (" << reason << "): " << running_.size()
            << " running requests wait for the next one";
  lost = DropGroup();
}

std::vector<GroupEngine::ChoicePtr> GroupEngine::HandOut(Deliveries deliveries) {
  std::vector<ChoicePtr> stopped;
  for (Delivery& delivery : deliveries) {
    const SinkVerdict verdict =
        delivery.choice->request().sink->OnUpdate(std::move(delivery.update));
    if (verdict == SinkVerdict::kStop) stopped.push_back(std::move(delivery.choice));
  }
  return stopped;
}

void GroupEngine::Deliver(Deliveries deliveries) {
  std::vector<ChoicePtr> stopped = HandOut(std::move(deliveries));
  if (!stopped.empty()) EndStopped(std::move(stopped));
}

void GroupEngine::DeliverStep(Deliveries deliveries) {
  std::vector<ChoicePtr> stopped;
  {
    absl::MutexLock lock(&delivery_mutex_);
    stopped = HandOut(std::move(deliveries));
  }
  if (!stopped.empty()) EndStopped(std::move(stopped));
}

void GroupEngine::AwaitDelivery(RequestId /*id*/) { absl::MutexLock lock(&delivery_mutex_); }

void GroupEngine::EndStopped(std::vector<ChoicePtr> stopped) {
  Deliveries deliveries;
  {
    absl::MutexLock lock(&mutex_);
    for (const ChoicePtr& choice : stopped) {
      if (!IsLive(*choice)) continue;
      End(choice, absl::OkStatus(), {}, deliveries, v1::FINISH_REASON_STOP);
    }
    SubmitBatches();
  }
  // An outcome is the last update: the verdict on it says nothing.
  for (Delivery& delivery : deliveries) {
    delivery.choice->request().sink->OnUpdate(std::move(delivery.update));
  }
}

void GroupEngine::EndExpired() {
  Deliveries deliveries;
  {
    absl::MutexLock lock(&mutex_);
    const absl::Time now = absl::Now();
    while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
      EndRequest(deadlines_.begin()->second,
                 absl::DeadlineExceededError("the request's deadline has passed"), deliveries);
    }
    if (!deadlines_.empty()) timer_.Arm(deadlines_.begin()->first);
    SubmitBatches();
  }
  Deliver(std::move(deliveries));
}

std::shared_ptr<RankGroup> GroupEngine::DropGroup() {
  for (const ChoicePtr& choice : running_) {
    choice->Stop();
    waiting_.emplace(choice->rank(), choice);
  }
  running_.clear();
  by_sequence_.clear();
  freed_sequences_.clear();
  outstanding_.clear();
  cache_ = PrefixCache(0);
  return std::exchange(group_, nullptr);
}

bool GroupEngine::IsLive(const ActiveChoice& choice) const {
  auto live = requests_.find(choice.request().id);
  return live != requests_.end() &&
         std::any_of(live->second.choices.begin(), live->second.choices.end(),
                     [&](const ChoicePtr& other) { return other.get() == &choice; });
}

void GroupEngine::End(const ChoicePtr& choice, absl::Status status, RequestUpdate update,
                      Deliveries& deliveries, v1::FinishReason reason) {
  if (choice->sequence_id()) {
    Release(*choice);
    std::erase(running_, choice);
  } else {
    waiting_.erase(choice->rank());
  }
  update.choice = choice->choice();
  update.outcome = choice->MakeOutcome(std::move(status), reason, absl::Now());
  deliveries.push_back({choice, std::move(update)});

  const SubmittedRequest& request = choice->request();
  auto live = requests_.find(request.id);
  std::erase(live->second.choices, choice);
  if (!live->second.choices.empty()) return;
  if (!live->second.started) --queued_;
  requests_.erase(live);
  deadlines_.erase({request.request.deadline, request.id});
  ++totals_.finished_requests;
}

void GroupEngine::EndRequest(RequestId id, const absl::Status& status, Deliveries& deliveries) {
  const std::vector<ChoicePtr> choices = requests_.at(id).choices;
  for (const ChoicePtr& choice : choices) End(choice, status, {}, deliveries);
}

absl::Status GroupEngine::CheckFits(const EngineRequest& request) const {
  if (group_ == nullptr) return absl::OkStatus();
  const GroupLimits& limits = group_->limits();
  const int64_t prompt_tokens = static_cast<int64_t>(request.prompt.size());
  const int64_t tokens = prompt_tokens + request.max_tokens;
  if (tokens <= limits.context_tokens && tokens - 1 <= limits.kv_blocks * kBlockTokens) {
    return absl::OkStatus();
  }
  const std::string asked =
      absl::StrCat(prompt_tokens, " prompt tokens and max_tokens = ", request.max_tokens, " make ",
                   tokens, " tokens; ");
  if (tokens > limits.context_tokens) {
    return absl::OutOfRangeError(
        absl::StrCat(asked, "the context has room for ", limits.context_tokens));
  }
  // The last token's keys and values are never computed.
  return absl::OutOfRangeError(absl::StrCat(asked, "the whole key-value pool has room for ",
                                            limits.kv_blocks * kBlockTokens, " (", limits.kv_blocks,
                                            " blocks of ", kBlockTokens, ")"));
}

void GroupEngine::EndNewcomersThatNeverFit(Deliveries& deliveries) {
  std::vector<std::pair<RequestId, absl::Status>> misfits;
  for (const auto& [id, live] : requests_) {
    if (live.started) continue;
    absl::Status fits = CheckFits(live.choices.front()->request().request);
    if (!fits.ok()) misfits.emplace_back(id, std::move(fits));
  }
  for (const auto& [id, status] : misfits) EndRequest(id, status, deliveries);
}

}  // namespace lockstep::coordinator
