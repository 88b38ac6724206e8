// Bookkeeping of one choice: rows handed out, rows confirmed, tokens come back.
#include "coordinator/engine/active_choice.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

namespace lockstep::coordinator {
namespace {

// Blocks of `tokens` tokens that may be shared: full ones, less that of the last token, since at
// least one row must be computed to sample from.
int64_t ShareableBlocks(int64_t tokens) { return (tokens - 1) / kBlockTokens; }

bool CountsTokens(const v1::SamplingParams& sampling) {
  return (sampling.has_repetition_penalty() && sampling.repetition_penalty() != 1.0) ||
         sampling.presence_penalty() != 0.0 || sampling.frequency_penalty() != 0.0;
}

}  // namespace

ActiveChoice::ActiveChoice(std::shared_ptr<const SubmittedRequest> request, int choice)
    : request_(std::move(request)), choice_(choice), tokens_(request_->request.prompt) {
  CHECK_GE(request_->prompt_tokens(), 1);
  CHECK_GE(request_->request.max_tokens, 1);
  if (!wants_prompt_logprobs()) return;
  prompt_logprobs_.resize(request_->prompt_tokens() - 1);
  if (*request_->request.prompt_logprobs > 0) prompt_alternatives_.resize(prompt_logprobs_.size());
}

CachedPrefix ActiveChoice::FindPrefix(const PrefixCache& cache) const {
  if (wants_prompt_logprobs()) return {.id = request_->prefix_root};
  const int64_t blocks = ShareableBlocks(static_cast<int64_t>(tokens_.size()));
  return cache.Find(std::span(tokens_).first(blocks * kBlockTokens), request_->prefix_root);
}

bool ActiveChoice::has_published_prompt() const {
  return published_blocks_ >= ShareableBlocks(request_->prompt_tokens());
}

void ActiveChoice::Start(uint64_t sequence_id, const CachedPrefix& prefix, absl::Time now,
                         v1::NewSequence& message) {
  CHECK(!sequence_id_.has_value());
  sequence_id_ = sequence_id;
  blocks_ = prefix.blocks;
  rows_ = prefix.tokens();
  prefill_rows_ = static_cast<int64_t>(tokens_.size());
  published_blocks_ = static_cast<int64_t>(prefix.blocks.size());
  published_prefix_ = prefix.id;
  if (!admitted_) {
    admitted_ = now;
    cached_tokens_ = prefix.tokens();
  }
  const EngineRequest& request = request_->request;
  message.set_sequence_id(sequence_id);
  *message.mutable_sampling() = request.sampling;
  message.set_choice(static_cast<uint32_t>(choice_));
  message.set_prompt_tokens(static_cast<uint32_t>(request_->prompt_tokens()));
  message.set_logprobs(request.logprobs.has_value());
  message.set_top_logprobs(static_cast<uint32_t>(request.logprobs.value_or(0)));
  message.set_prompt_logprobs(wants_prompt_logprobs());
  if (wants_prompt_logprobs()) {
    message.set_prompt_top_logprobs(static_cast<uint32_t>(*request.prompt_logprobs));
  }
  if (request.sampling.min_tokens() > generated_tokens()) {
    message.mutable_end_token_ids()->Add(request.stop_token_ids.begin(),
                                         request.stop_token_ids.end());
  }
  DescribeSharedBlocks(prefix, message);
}

void ActiveChoice::DescribeSharedBlocks(const CachedPrefix& prefix,
                                        v1::NewSequence& message) const {
  message.mutable_shared_block_ids()->Add(prefix.blocks.begin(), prefix.blocks.end());
  if (!CountsTokens(request_->request.sampling)) return;
  message.mutable_shared_token_ids()->Add(tokens_.begin(), tokens_.begin() + prefix.tokens());
}

void ActiveChoice::Stop() {
  sequence_id_.reset();
  blocks_.clear();
  rows_ = 0;
  prefill_rows_ = 0;
  published_blocks_ = 0;
  published_prefix_ = PrefixId::kRoot;
  samples_under_way_ = 0;
  last_sample_step_ = 0;
  last_answered_step_ = 0;
}

WaitingSequence ActiveChoice::waiting_view(const CachedPrefix& prefix) const {
  return {.tokens = static_cast<int64_t>(tokens_.size()),
          .shared_blocks = static_cast<int64_t>(prefix.blocks.size()),
          .unheld_blocks = prefix.unheld_blocks,
          .priority = request_->request.priority};
}

RunningSequence ActiveChoice::running_view() const {
  return {.rows = rows_,
          .prefill_rows = prefill_rows_,
          .blocks = static_cast<int64_t>(blocks_.size()),
          .samples_under_way = samples_under_way_,
          .wants_sample = generated_tokens() + samples_under_way_ < request_->request.max_tokens,
          .last_sample_step = last_sample_step_,
          .priority = request_->request.priority};
}

void ActiveChoice::AddChunk(const ScheduledChunk& plan, std::span<const int32_t> new_blocks,
                            uint64_t step_id, v1::SequenceChunk& message) {
  message.set_sequence_id(*sequence_id_);
  message.set_first_position(static_cast<uint32_t>(rows_));
  message.mutable_new_block_ids()->Add(new_blocks.begin(), new_blocks.end());
  blocks_.insert(blocks_.end(), new_blocks.begin(), new_blocks.end());
  const int64_t end = rows_ + plan.rows;
  if (rows_ < prefill_rows_) {
    message.mutable_token_ids()->Add(tokens_.begin() + rows_, tokens_.begin() + end);
    if (wants_prompt_logprobs() && end < request_->prompt_tokens()) {
      message.set_next_token_id(tokens_[end]);
    }
  }
  message.set_sample(plan.sample);
  rows_ = end;
  if (plan.sample) {
    ++samples_under_way_;
    last_sample_step_ = step_id;
  }
}

void ActiveChoice::Confirm(int64_t rows, PrefixCache& cache) {
  for (; published_blocks_ < rows / kBlockTokens; ++published_blocks_) {
    published_prefix_ =
        cache.Publish(published_prefix_,
                      std::span(tokens_).subspan(published_blocks_ * kBlockTokens, kBlockTokens),
                      blocks_[published_blocks_]);
  }
}

void ActiveChoice::TakePromptLogprobs(const v1::PromptLogprobs& message) {
  if (!wants_prompt_logprobs()) return;
  // Element i is of prompt token i + 1.
  const int64_t first = static_cast<int64_t>(message.first_position()) - 1;
  const int64_t size = static_cast<int64_t>(prompt_logprobs_.size());
  const bool has_alternatives = !prompt_alternatives_.empty();
  if (first < 0 || first + message.logprobs_size() > size ||
      (has_alternatives && message.top_logprobs_size() != message.logprobs_size())) {
    LOG(ERROR) << "dropped log-probabilities of tokens " << message.first_position() << " and on ("
               << message.logprobs_size() << " of them, " << message.top_logprobs_size()
               << " with alternatives) of a prompt of " << request_->prompt_tokens();
    return;
  }
  std::copy(message.logprobs().begin(), message.logprobs().end(), prompt_logprobs_.begin() + first);
  if (!has_alternatives) return;
  std::copy(message.top_logprobs().begin(), message.top_logprobs().end(),
            prompt_alternatives_.begin() + first);
}

std::optional<v1::FinishReason> ActiveChoice::TakeToken(const v1::SampledToken& token,
                                                        uint64_t step_id, absl::Time now,
                                                        RequestUpdate& update) {
  const EngineRequest& request = request_->request;
  --samples_under_way_;
  last_answered_step_ = step_id;
  tokens_.push_back(token.token_id());
  if (!first_token_) first_token_ = now;
  if (wants_prompt_logprobs()) {
    update.prompt_logprobs = std::move(prompt_logprobs_);
    update.prompt_alternatives = std::move(prompt_alternatives_);
    prompt_logprobs_delivered_ = true;
  }
  update.token_id = token.token_id();
  if (request.logprobs) {
    update.logprob = token.logprob();
    if (*request.logprobs > 0) update.alternatives = token.top_logprobs();
  }
  const std::vector<int32_t>& stops = request.stop_token_ids;
  if (std::find(stops.begin(), stops.end(), token.token_id()) != stops.end()) {
    stop_token_id_ = token.token_id();
    return v1::FINISH_REASON_STOP;
  }
  if (generated_tokens() >= request.max_tokens) return v1::FINISH_REASON_LENGTH;
  return std::nullopt;
}

RequestOutcome ActiveChoice::MakeOutcome(absl::Status status, v1::FinishReason reason,
                                         absl::Time now) const {
  auto since_arrival_us = [this](std::optional<absl::Time> then) {
    return then ? absl::ToInt64Microseconds(*then - request_->arrival) : 0;
  };
  return {.status = std::move(status),
          .reason = reason,
          .stop_token_id = stop_token_id_,
          .prompt_tokens = request_->prompt_tokens(),
          .cached_tokens = cached_tokens_,
          .completion_tokens = generated_tokens(),
          .seed = request_->request.sampling.seed(),
          .queue_us = since_arrival_us(admitted_),
          .first_token_us = since_arrival_us(first_token_),
          .total_us = since_arrival_us(now)};
}

}  // namespace lockstep::coordinator
