// The engine's step path: snapshot -> decision -> batch, and result -> updates. Everything runs
// under the engine's mutex, in the thread that made progress possible.
#include <glog/logging.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "coordinator/engine/group_engine.h"

namespace lockstep::coordinator {

void GroupEngine::SubmitBatches() {
  if (group_ == nullptr) return;
  while (static_cast<int>(outstanding_.size()) < MaxOutstanding()) {
    FillSnapshot();
    const ScheduleDecision decision = Schedule(snapshot_);
    if (decision.empty()) return;
    CarryOut(decision);
    // A decision may be to preempt and nothing else; the blocks are then there for the next one.
    if (!decision.running.empty() || !decision.admitted.empty()) SubmitBatch();
  }
}

int GroupEngine::MaxOutstanding() const {
  const int most = MaxOutstandingBatches(group_->limits().pp_size);
  return std::min(most, options_.max_outstanding_batches.value_or(most));
}

void GroupEngine::FillSnapshot() {
  const GroupLimits& limits = group_->limits();
  snapshot_.step_id = next_step_;
  snapshot_.outstanding_batches = static_cast<int>(outstanding_.size());
  snapshot_.pp_size = limits.pp_size;
  snapshot_.max_batch_tokens = limits.max_batch_tokens;
  snapshot_.max_sequences = limits.max_sequences;
  snapshot_.free_blocks = cache_.available_blocks();
  snapshot_.running.clear();
  for (const ChoicePtr& choice : running_) snapshot_.running.push_back(choice->running_view());
  FillCandidates();
  // What preemption would free matters only when blocks run short, and takes long to count.
  const bool short_of_blocks = snapshot_.free_blocks < static_cast<int64_t>(running_.size());
  const bool somebody_is_urgent =
      !running_.empty() && !snapshot_.waiting.empty() &&
      snapshot_.waiting.front().priority < snapshot_.running.back().priority;
  if (!short_of_blocks && !somebody_is_urgent) return;
  for (size_t i = 0; i < running_.size(); ++i) {
    snapshot_.running[i].own_blocks = cache_.CountSoleHeld(running_[i]->blocks());
  }
}

void GroupEngine::FillCandidates() {
  const GroupLimits& limits = group_->limits();
  snapshot_.waiting.clear();
  candidates_.clear();
  int64_t seats = limits.max_sequences - static_cast<int64_t>(running_.size());
  int64_t rows = 0;
  for (const auto& [rank, choice] : waiting_) {
    // One without a seat is of interest only if it may preempt.
    const bool urgent = candidates_.empty() && !running_.empty() &&
                        rank.priority < running_.back()->rank().priority;
    if (seats <= 0 && !urgent) return;
    // With as many rows as two batches take, nobody behind would get any.
    if (rows > 2 * limits.max_batch_tokens) return;
    // One that was running in a larger group waits for such a group, or for its deadline.
    if (!MayStart(*choice) || !CheckFits(choice->request().request).ok()) continue;
    candidates_.push_back({choice, choice->FindPrefix(cache_)});
    snapshot_.waiting.push_back(choice->waiting_view(candidates_.back().prefix));
    rows += snapshot_.waiting.back().tokens - candidates_.back().prefix.tokens();
    --seats;
  }
}

bool GroupEngine::MayStart(const ActiveChoice& choice) const {
  if (choice.choice() == 0) return true;
  const ActiveChoice& first = *requests_.at(choice.request().id).choices.front();
  return first.choice() != 0 || first.has_published_prompt();
}

void GroupEngine::CarryOut(const ScheduleDecision& decision) {
  batch_.Clear();
  pending_.step_id = next_step_;
  pending_.parts.clear();
  for (size_t index : decision.preempted) Preempt(running_[index]);
  // Before any block is taken, which might be one of those found.
  for (const ScheduledChunk& chunk : decision.admitted) {
    cache_.Hold(candidates_[chunk.index].prefix);
  }
  for (const ScheduledChunk& chunk : decision.running) AddChunk(*running_[chunk.index], chunk);
  std::erase_if(running_, [](const ChoicePtr& choice) { return !choice->sequence_id(); });
  for (const ScheduledChunk& chunk : decision.admitted) {
    const Candidate& candidate = candidates_[chunk.index];
    Admit(candidate.choice, candidate.prefix);
    AddChunk(*candidate.choice, chunk);
  }
}

void GroupEngine::SubmitBatch() {
  batch_.set_epoch(group_->limits().epoch);
  batch_.set_step_id(next_step_++);
  batch_.mutable_freed_sequence_ids()->Add(freed_sequences_.begin(), freed_sequences_.end());
  freed_sequences_.clear();
  outstanding_.push_back(pending_);
  group_->Submit(batch_);
}

void GroupEngine::AddChunk(ActiveChoice& choice, const ScheduledChunk& plan) {
  choice.AddChunk(plan, cache_.Take(plan.new_blocks), pending_.step_id, *batch_.add_chunks());
  pending_.parts.push_back(
      {.sequence_id = *choice.sequence_id(), .rows = choice.rows(), .sampled = plan.sample});
}

void GroupEngine::Admit(const ChoicePtr& choice, const CachedPrefix& prefix) {
  const uint64_t sequence_id = next_sequence_++;
  const WaitingSequence view = choice->waiting_view(prefix);
  totals_.prompt_tokens += view.tokens;
  totals_.cached_tokens += prefix.tokens();
  choice->Start(sequence_id, prefix, absl::Now(), *batch_.add_new_sequences());
  by_sequence_.emplace(sequence_id, choice);
  waiting_.erase(choice->rank());
  LiveRequest& live = requests_.at(choice->request().id);
  if (!std::exchange(live.started, true)) --queued_;
  auto place = std::upper_bound(
      running_.begin(), running_.end(), choice->rank(),
      [](const QueueRank& rank, const ChoicePtr& other) { return rank < other->rank(); });
  running_.insert(place, choice);
}

void GroupEngine::Preempt(const ChoicePtr& choice) {
  ++totals_.preemptions;
  Release(*choice);
  waiting_.emplace(choice->rank(), choice);
}

void GroupEngine::Release(ActiveChoice& choice) {
  cache_.Return(choice.blocks());
  by_sequence_.erase(*choice.sequence_id());
  freed_sequences_.push_back(*choice.sequence_id());
  choice.Stop();
}

void GroupEngine::ApplyResult(const v1::StepResult& result, Deliveries& deliveries) {
  if (outstanding_.empty() || outstanding_.front().step_id != result.step_id()) {
    LOG(ERROR) << "dropped the result of step " << result.step_id() << " of epoch "
               << result.epoch() << ", which is not the oldest outstanding one";
    return;
  }
  const OutstandingBatch batch = std::move(outstanding_.front());
  outstanding_.pop_front();
  const absl::Time now = absl::Now();
  for (const OutstandingBatch::Part& part : batch.parts) {
    if (ChoicePtr choice = FindSequence(part.sequence_id)) choice->Confirm(part.rows, cache_);
  }
  for (const v1::PromptLogprobs& logprobs : result.prompt_logprobs()) {
    if (ChoicePtr choice = FindSequence(logprobs.sequence_id())) {
      choice->TakePromptLogprobs(logprobs);
    }
  }
  deliveries.reserve(result.sampled_size());
  for (const v1::SampledToken& token : result.sampled()) {
    ApplyToken(token, batch.step_id, now, deliveries);
  }
  EndUnanswered(batch, deliveries);
}

void GroupEngine::ApplyToken(const v1::SampledToken& token, uint64_t step_id, absl::Time now,
                             Deliveries& deliveries) {
  const ChoicePtr choice = FindSequence(token.sequence_id());
  // Ended or preempted since: the token overran.
  if (choice == nullptr) return;
  RequestUpdate update{.choice = choice->choice()};
  const std::optional<v1::FinishReason> reason = choice->TakeToken(token, step_id, now, update);
  ++totals_.generated_tokens;
  if (reason) {
    End(choice, absl::OkStatus(), std::move(update), deliveries, *reason);
  } else {
    deliveries.push_back({choice, std::move(update)});
  }
}

void GroupEngine::EndUnanswered(const OutstandingBatch& batch, Deliveries& deliveries) {
  for (const OutstandingBatch::Part& part : batch.parts) {
    if (!part.sampled) continue;
    const ChoicePtr choice = FindSequence(part.sequence_id);
    if (choice == nullptr || choice->last_answered_step() == batch.step_id) continue;
    End(choice,
        absl::InternalError(absl::StrCat("the workers sampled no token for sequence ",
                                         part.sequence_id, " in step ", batch.step_id)),
        {}, deliveries);
  }
}

GroupEngine::ChoicePtr GroupEngine::FindSequence(uint64_t sequence_id) const {
  auto found = by_sequence_.find(sequence_id);
  return found == by_sequence_.end() ? nullptr : found->second;
}

}  // namespace lockstep::coordinator
