// The engine's step path: snapshot -> decision -> batch, and result -> updates. Everything runs
// under the engine's mutex, in the thread that made progress possible.
#include <glog/logging.h>

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "coordinator/engine/engine.h"

namespace lockstep::coordinator {

void Engine::SubmitBatches() {
  if (group_ == nullptr) return;
  while (true) {
    FillSnapshot();
    const ScheduleDecision decision = Schedule(snapshot_);
    if (decision.empty()) return;
    CarryOut(decision);
    // A decision may be to preempt and nothing else; the blocks are then there for the next one.
    if (!decision.running.empty() || !decision.admitted.empty()) SubmitBatch();
  }
}

void Engine::FillSnapshot() {
  const GroupLimits& limits = group_->limits();
  snapshot_.step_id = next_step_;
  snapshot_.outstanding_batches = static_cast<int>(outstanding_.size());
  snapshot_.pp_size = limits.pp_size;
  snapshot_.max_batch_tokens = limits.max_batch_tokens;
  snapshot_.max_sequences = limits.max_sequences;
  snapshot_.free_blocks = pool_.free_blocks();
  snapshot_.running.clear();
  for (const RequestPtr& request : running_) snapshot_.running.push_back(request->running_view());
  snapshot_.waiting.clear();
  candidates_.clear();
  for (const auto& [id, request] : waiting_) {
    const int64_t holders = static_cast<int64_t>(running_.size() + candidates_.size());
    if (holders >= limits.max_sequences) break;
    // One that was running in a larger group waits for such a group, or for its deadline.
    if (!CheckFits(request->prompt_tokens(), request->request().max_tokens).ok()) continue;
    snapshot_.waiting.push_back(request->waiting_view());
    candidates_.push_back(request);
  }
}

void Engine::CarryOut(const ScheduleDecision& decision) {
  batch_.Clear();
  pending_.step_id = next_step_;
  pending_.sampled_sequences.clear();
  for (size_t index : decision.preempted) Preempt(running_[index]);
  for (const ScheduledChunk& chunk : decision.running) AddChunk(*running_[chunk.index], chunk);
  std::erase_if(running_, [](const RequestPtr& request) { return !request->sequence_id(); });
  for (const ScheduledChunk& chunk : decision.admitted) {
    Admit(candidates_[chunk.index]);
    AddChunk(*candidates_[chunk.index], chunk);
  }
}

void Engine::SubmitBatch() {
  batch_.set_epoch(group_->limits().epoch);
  batch_.set_step_id(next_step_++);
  batch_.mutable_freed_sequence_ids()->Add(freed_sequences_.begin(), freed_sequences_.end());
  freed_sequences_.clear();
  outstanding_.push_back(pending_);
  group_->Submit(batch_);
}

void Engine::AddChunk(ActiveRequest& request, const ScheduledChunk& plan) {
  request.AddChunk(plan, pool_.Take(plan.new_blocks), pending_.step_id, *batch_.add_chunks());
  if (plan.sample) pending_.sampled_sequences.push_back(*request.sequence_id());
}

void Engine::Admit(const RequestPtr& request) {
  const uint64_t sequence_id = next_sequence_++;
  request->Start(sequence_id, absl::Now(), *batch_.add_new_sequences());
  by_sequence_.emplace(sequence_id, request);
  waiting_.erase(request->id());
  // Stays sorted: admission is in the order of arrival, and only the youngest is ever preempted.
  running_.push_back(request);
}

void Engine::Preempt(const RequestPtr& request) {
  ++totals_.preemptions;
  Release(*request);
  waiting_.emplace(request->id(), request);
}

void Engine::Release(ActiveRequest& request) {
  pool_.Return(request.blocks());
  by_sequence_.erase(*request.sequence_id());
  freed_sequences_.push_back(*request.sequence_id());
  request.Stop();
}

void Engine::ApplyResult(const v1::StepResult& result, Deliveries& deliveries) {
  if (outstanding_.empty() || outstanding_.front().step_id != result.step_id()) {
    LOG(ERROR) << "dropped the result of step " << result.step_id() << " of epoch "
               << result.epoch() << ", which is not the oldest outstanding one";
    return;
  }
  const OutstandingBatch batch = std::move(outstanding_.front());
  outstanding_.pop_front();
  const absl::Time now = absl::Now();
  for (const v1::PromptLogprobs& logprobs : result.prompt_logprobs()) {
    auto found = by_sequence_.find(logprobs.sequence_id());
    if (found != by_sequence_.end()) found->second->TakePromptLogprobs(logprobs);
  }
  for (const v1::SampledToken& token : result.sampled()) {
    ApplyToken(token, batch.step_id, now, deliveries);
  }
  EndUnanswered(batch, deliveries);
}

void Engine::ApplyToken(const v1::SampledToken& token, uint64_t step_id, absl::Time now,
                        Deliveries& deliveries) {
  auto found = by_sequence_.find(token.sequence_id());
  // Its request has ended or was preempted since: the token overran.
  if (found == by_sequence_.end()) return;
  ActiveRequest& request = *found->second;
  RequestUpdate update;
  const std::optional<v1::FinishReason> reason = request.TakeToken(token, step_id, now, update);
  ++totals_.generated_tokens;
  if (reason) {
    End(request.id(), absl::OkStatus(), std::move(update), deliveries, *reason);
  } else {
    deliveries.push_back({request.sink(), std::move(update)});
  }
}

void Engine::EndUnanswered(const OutstandingBatch& batch, Deliveries& deliveries) {
  for (uint64_t sequence_id : batch.sampled_sequences) {
    auto found = by_sequence_.find(sequence_id);
    if (found == by_sequence_.end()) continue;
    const ActiveRequest& request = *found->second;
    if (request.last_answered_step() == batch.step_id) continue;
    End(request.id(),
        absl::InternalError(absl::StrCat("the workers sampled no token for sequence ", sequence_id,
                                         " in step ", batch.step_id)),
        {}, deliveries);
  }
}

}  // namespace lockstep::coordinator
