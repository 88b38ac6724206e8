// Gathering, decoding and ending of choices.
#include "coordinator/serve/request_output.h"

#include <utility>

namespace lockstep::coordinator {

ChoiceOutput::ChoiceOutput(int choice, const text::Tokenizer& tokenizer, const TextOptions& options)
    : choice_(choice) {
  if (!options.stop.empty()) text_.emplace(tokenizer, options);
}

SinkVerdict ChoiceOutput::Add(RequestUpdate update) {
  gathered_.mutable_prompt_logprobs()->Add(update.prompt_logprobs.begin(),
                                           update.prompt_logprobs.end());
  for (v1::TokenAlternatives& alternatives : update.prompt_alternatives) {
    *gathered_.add_prompt_top_logprobs() = std::move(alternatives);
  }
  if (update.token_id) gathered_.add_token_ids(*update.token_id);
  if (update.logprob) gathered_.add_logprobs(*update.logprob);
  if (update.alternatives) *gathered_.add_top_logprobs() = *std::move(update.alternatives);
  outcome_ = std::move(update.outcome);
  // A stop string's outcome comes without a token, an end token's with it.
  if (outcome_ && outcome_->reason == v1::FINISH_REASON_STOP) end_token_ = update.token_id;
  if (!text_) return SinkVerdict::kGoOn;
  DecodeGathered();
  return text_->stopped_by() ? SinkVerdict::kStop : SinkVerdict::kGoOn;
}

bool ChoiceOutput::has_message() const {
  return !finished_ && (outcome_ || !gathered_.token_ids().empty());
}

void ChoiceOutput::Take(v1::GenerateResponse& message) {
  if (outcome_) AddFinish();
  gathered_.set_choice(static_cast<uint32_t>(choice_));
  message.Clear();
  message.Swap(&gathered_);
  decoded_ids_ = 0;
}

void ChoiceOutput::DecodeGathered() {
  const int end = gathered_.token_ids_size() - (end_token_ ? 1 : 0);
  while (decoded_ids_ < end) {
    text_->Push(gathered_.token_ids(decoded_ids_++), *gathered_.mutable_text());
  }
}

void ChoiceOutput::AddFinish() {
  finished_ = true;
  v1::Finish& finish = *gathered_.mutable_finish();
  finish.set_reason(outcome_->reason);
  finish.set_prompt_tokens(static_cast<int32_t>(outcome_->prompt_tokens));
  finish.set_completion_tokens(static_cast<int32_t>(outcome_->completion_tokens));
  finish.set_cached_tokens(static_cast<int32_t>(outcome_->cached_tokens));
  finish.set_seed(outcome_->seed);
  finish.set_queue_us(outcome_->queue_us);
  finish.set_first_token_us(outcome_->first_token_us);
  finish.set_total_us(outcome_->total_us);
  if (end_token_) finish.set_stop_token_id(*end_token_);
  if (!text_) return;
  text_->Flush(*gathered_.mutable_text());
  if (text_->stopped_by()) {
    // Also where the string was completed by the last token that there was room for.
    finish.set_reason(v1::FINISH_REASON_STOP);
    finish.set_stop(*text_->stopped_by());
  }
}

RequestOutput::RequestOutput(int choices, const text::Tokenizer& tokenizer,
                             const TextOptions& options)
    : open_choices_(choices), unfinished_choices_(choices) {
  choices_.reserve(choices);
  for (int choice = 0; choice < choices; ++choice) {
    choices_.emplace_back(choice, tokenizer, options);
  }
}

SinkVerdict RequestOutput::Add(RequestUpdate update) {
  ChoiceOutput& choice = choices_[update.choice];
  if (choice.outcome() || !status_.ok()) return SinkVerdict::kGoOn;
  const SinkVerdict verdict = choice.Add(std::move(update));
  if (choice.outcome()) {
    --open_choices_;
    status_.Update(choice.outcome()->status);
  }
  return verdict;
}

bool RequestOutput::Next(v1::GenerateResponse& message) {
  if (!status_.ok()) return false;
  for (size_t i = 0; i < choices_.size(); ++i) {
    ChoiceOutput& choice = choices_[turn_];
    if (++turn_ == choices_.size()) turn_ = 0;
    if (!choice.has_message()) continue;
    choice.Take(message);
    if (choice.finished()) --unfinished_choices_;
    return true;
  }
  return false;
}

bool RequestOutput::has_message() const {
  if (!status_.ok()) return false;
  for (const ChoiceOutput& choice : choices_) {
    if (choice.has_message()) return true;
  }
  return false;
}

MessageText::MessageText(int choices, const text::Tokenizer& tokenizer, const TextOptions& options)
    : filled_already_(!options.stop.empty()) {
  if (filled_already_) return;
  texts_.reserve(choices);
  for (int choice = 0; choice < choices; ++choice) texts_.emplace_back(tokenizer, options);
}

void MessageText::Fill(v1::GenerateResponse& message) {
  if (filled_already_) return;
  TextOutput& text = texts_[message.choice()];
  const bool ends_with_end_token = message.finish().stopped_by_case() == v1::Finish::kStopTokenId;
  const int count = message.token_ids_size() - (ends_with_end_token ? 1 : 0);
  for (int i = 0; i < count; ++i) text.Push(message.token_ids(i), *message.mutable_text());
  if (message.has_finish()) text.Flush(*message.mutable_text());
}

}  // namespace lockstep::coordinator
