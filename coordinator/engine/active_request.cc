// Bookkeeping of one request: rows handed out, tokens come back.
#include "coordinator/engine/active_request.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

namespace lockstep::coordinator {

ActiveRequest::ActiveRequest(RequestId id, EngineRequest request, std::shared_ptr<RequestSink> sink,
                             absl::Time arrival)
    : id_(id),
      request_(std::move(request)),
      sink_(std::move(sink)),
      prompt_tokens_(static_cast<int64_t>(request_.prompt.size())),
      tokens_(std::move(request_.prompt)),
      arrival_(arrival) {
  CHECK_GE(prompt_tokens_, 1);
  CHECK_GE(request_.max_tokens, 1);
  if (request_.prompt_logprobs) prompt_logprobs_.resize(prompt_tokens_ - 1);
}

void ActiveRequest::Start(uint64_t sequence_id, absl::Time now, v1::NewSequence& message) {
  CHECK(!sequence_id_.has_value());
  sequence_id_ = sequence_id;
  prefill_rows_ = static_cast<int64_t>(tokens_.size());
  if (!admitted_) admitted_ = now;
  message.set_sequence_id(sequence_id);
  *message.mutable_sampling() = request_.sampling;
  message.set_prompt_tokens(static_cast<uint32_t>(prompt_tokens_));
  message.set_logprobs(request_.logprobs.has_value());
  message.set_prompt_logprobs(wants_prompt_logprobs());
}

void ActiveRequest::Stop() {
  sequence_id_.reset();
  blocks_.clear();
  rows_ = 0;
  prefill_rows_ = 0;
  samples_under_way_ = 0;
  last_sample_step_ = 0;
  last_answered_step_ = 0;
}

WaitingSequence ActiveRequest::waiting_view() const {
  return {.tokens = static_cast<int64_t>(tokens_.size())};
}

RunningSequence ActiveRequest::running_view() const {
  return {.rows = rows_,
          .prefill_rows = prefill_rows_,
          .blocks = static_cast<int64_t>(blocks_.size()),
          .samples_under_way = samples_under_way_,
          .wants_sample = generated_tokens() + samples_under_way_ < request_.max_tokens,
          .last_sample_step = last_sample_step_};
}

void ActiveRequest::AddChunk(const ScheduledChunk& plan, std::span<const int32_t> new_blocks,
                             uint64_t step_id, v1::SequenceChunk& message) {
  message.set_sequence_id(*sequence_id_);
  message.set_first_position(static_cast<uint32_t>(rows_));
  message.mutable_new_block_ids()->Add(new_blocks.begin(), new_blocks.end());
  blocks_.insert(blocks_.end(), new_blocks.begin(), new_blocks.end());
  const int64_t end = rows_ + plan.rows;
  if (rows_ < prefill_rows_) {
    message.mutable_token_ids()->Add(tokens_.begin() + rows_, tokens_.begin() + end);
    if (wants_prompt_logprobs() && end < prompt_tokens_) message.set_next_token_id(tokens_[end]);
  }
  message.set_sample(plan.sample);
  rows_ = end;
  if (plan.sample) {
    ++samples_under_way_;
    last_sample_step_ = step_id;
  }
}

void ActiveRequest::TakePromptLogprobs(const v1::PromptLogprobs& message) {
  if (!wants_prompt_logprobs()) return;
  // Element i is of prompt token i + 1.
  const int64_t first = static_cast<int64_t>(message.first_position()) - 1;
  const int64_t size = static_cast<int64_t>(prompt_logprobs_.size());
  if (first < 0 || first + message.logprobs_size() > size) {
    LOG(ERROR) << "dropped log-probabilities of tokens " << message.first_position() << " and on ("
               << message.logprobs_size() << " of them) of a prompt of " << prompt_tokens_;
    return;
  }
  std::copy(message.logprobs().begin(), message.logprobs().end(), prompt_logprobs_.begin() + first);
}

std::optional<v1::FinishReason> ActiveRequest::TakeToken(const v1::SampledToken& token,
                                                         uint64_t step_id, absl::Time now,
                                                         RequestUpdate& update) {
  --samples_under_way_;
  last_answered_step_ = step_id;
  tokens_.push_back(token.token_id());
  if (!first_token_) first_token_ = now;
  if (wants_prompt_logprobs()) {
    update.prompt_logprobs = std::move(prompt_logprobs_);
    prompt_logprobs_delivered_ = true;
  }
  update.token_id = token.token_id();
  if (request_.logprobs) update.logprob = token.logprob();
  const std::vector<int32_t>& stops = request_.stop_token_ids;
  if (std::find(stops.begin(), stops.end(), token.token_id()) != stops.end()) {
    return v1::FINISH_REASON_STOP;
  }
  if (generated_tokens() >= request_.max_tokens) return v1::FINISH_REASON_LENGTH;
  return std::nullopt;
}

RequestOutcome ActiveRequest::MakeOutcome(absl::Status status, v1::FinishReason reason,
                                          absl::Time now) const {
  auto since_arrival_us = [this](std::optional<absl::Time> then) {
    return then ? absl::ToInt64Microseconds(*then - arrival_) : 0;
  };
  return {.status = std::move(status),
          .reason = reason,
          .prompt_tokens = prompt_tokens_,
          .completion_tokens = generated_tokens(),
          .seed = request_.sampling.seed(),
          .queue_us = since_arrival_us(admitted_),
          .first_token_us = since_arrival_us(first_token_),
          .total_us = since_arrival_us(now)};
}

}  // namespace lockstep::coordinator
