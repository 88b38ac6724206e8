// Receiving lazily, sending at once.
#include "worker/token_return.h"

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace lockstep::worker {

absl::Status TokenReturn::Resolve(Step& step, SequenceTable& table) {
  if (!shard_.has_embedding) return absl::OkStatus();
  for (const Step::PendingToken& pending : step.pending) {
    while (pending.sequence->last_token_step != pending.sampled_step) {
      LOCKSTEP_RETURN_IF_ERROR(ReceiveOldest(table));
    }
    step.tokens[pending.row] = pending.sequence->last_token;
  }
  // Steps that are pp_size + 1 back have been answered by all ranks, so their tokens were sent;
  // what nobody asked for must not pile up.
  while (!awaited_.empty() && awaited_.front().step_id + shard_.pp_size + 1 <= step.step_id) {
    LOCKSTEP_RETURN_IF_ERROR(ReceiveOldest(table));
  }
  return absl::OkStatus();
}

absl::Status TokenReturn::Deliver(const Step& step, std::span<const int32_t> tokens) {
  if (step.samples.empty()) return absl::OkStatus();
  const bool one_stage = shard_.has_embedding && shard_.has_head;
  if (one_stage) {
    for (size_t i = 0; i < step.samples.size(); ++i) {
      step.samples[i].sequence->last_token = tokens[i];
      step.samples[i].sequence->last_token_step = step.step_id;
    }
  } else if (shard_.has_head) {
    return tokens_->Send(/*peer=*/0, std::as_bytes(tokens));
  } else if (shard_.has_embedding) {
    Awaited& awaited = awaited_.emplace_back();
    awaited.step_id = step.step_id;
    for (const Step::Sample& sample : step.samples) {
      awaited.sequence_ids.push_back(sample.sequence->id);
    }
  }
  return absl::OkStatus();
}

absl::Status TokenReturn::ReceiveOldest(SequenceTable& table) {
  if (awaited_.empty()) return absl::InternalError("a sampled token was lost between the stages");
  const Awaited awaited = std::move(awaited_.front());
  awaited_.pop_front();
  std::vector<int32_t> tokens(awaited.sequence_ids.size());
  LOCKSTEP_RETURN_IF_ERROR(
      tokens_->Receive(shard_.pp_size - 1, std::as_writable_bytes(std::span(tokens))));
  for (size_t i = 0; i < tokens.size(); ++i) {
    // The sequence may have ended meanwhile.
    if (Sequence* sequence = table.Find(awaited.sequence_ids[i]); sequence != nullptr) {
      sequence->last_token = tokens[i];
      sequence->last_token_step = awaited.step_id;
    }
  }
  return absl::OkStatus();
}

}  // namespace lockstep::worker
