// Few ids change, so that the work is a walk over those instead of over the vocabulary.
#include "worker/logit_processing.h"

#include <algorithm>
#include <limits>

namespace lockstep::worker {
namespace {

// Far beyond any model's logits; a tiny repetition penalty must not make infinities of them.
constexpr double kHighestLogit = 1e30;

bool MasksEnds(const Sampling& sampling, int64_t generated) {
  return generated < sampling.min_tokens && !sampling.end_token_ids.empty();
}

float Penalized(float logit, const TokenUse& use, const Sampling& sampling) {
  double value = logit;
  value = value > 0 ? value / sampling.repetition_penalty : value * sampling.repetition_penalty;
  value -= sampling.frequency_penalty * use.in_output;
  if (use.in_output > 0) value -= sampling.presence_penalty;
  return static_cast<float>(std::clamp(value, -kHighestLogit, kHighestLogit));
}

}  // namespace

bool ChangesLogits(const Sampling& sampling, int64_t generated) {
  return !sampling.logit_bias.empty() || sampling.penalizes() || MasksEnds(sampling, generated);
}

void ProcessLogits(const Sampling& sampling, const TokenCounts* counts, int64_t generated,
                   int64_t vocab_size, int32_t first_id, std::span<float> logits) {
  const auto is_mine = [&](int32_t id) {
    return id >= first_id && id - first_id < static_cast<int64_t>(logits.size());
  };
  for (auto [id, bias] : sampling.logit_bias) {
    if (is_mine(id)) logits[id - first_id] += bias;
  }
  if (counts != nullptr) {
    for (const auto& [id, use] : *counts) {
      if (is_mine(id)) logits[id - first_id] = Penalized(logits[id - first_id], use, sampling);
    }
  }
  // Were everything masked there would be nothing to draw.
  const bool ends_are_all = static_cast<int64_t>(sampling.end_token_ids.size()) >= vocab_size;
  if (!MasksEnds(sampling, generated) || ends_are_all) return;
  for (int32_t id : sampling.end_token_ids) {
    if (is_mine(id)) logits[id - first_id] = -std::numeric_limits<float>::infinity();
  }
}

}  // namespace lockstep::worker
