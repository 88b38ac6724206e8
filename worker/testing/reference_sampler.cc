// Slow and obvious; shares no code with the sampler.
#include "worker/testing/reference_sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace lockstep::worker {
namespace {

bool Occurs(std::span<const int32_t> tokens, int32_t id) {
  return std::find(tokens.begin(), tokens.end(), id) != tokens.end();
}

void Normalize(std::vector<double>& weights) {
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& weight : weights) weight /= sum;
}

}  // namespace

std::vector<double> ReferenceProcessed(std::vector<double> logits, const Sampling& sampling,
                                       std::span<const int32_t> prompt,
                                       std::span<const int32_t> output) {
  for (auto [id, bias] : sampling.logit_bias) logits[id] += bias;
  for (size_t id = 0; id < logits.size(); ++id) {
    double& logit = logits[id];
    const auto token = static_cast<int32_t>(id);
    if (Occurs(prompt, token) || Occurs(output, token)) {
      logit *= logit > 0 ? 1 / sampling.repetition_penalty : sampling.repetition_penalty;
    }
    logit -= sampling.frequency_penalty *
             static_cast<double>(std::count(output.begin(), output.end(), token));
    if (Occurs(output, token)) logit -= sampling.presence_penalty;
    if (static_cast<int64_t>(output.size()) < sampling.min_tokens &&
        Occurs(sampling.end_token_ids, token)) {
      logit = -std::numeric_limits<double>::infinity();
    }
  }
  return logits;
}

std::vector<double> ReferenceProbabilities(const std::vector<double>& processed,
                                           const Sampling& sampling) {
  std::vector<size_t> order(processed.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return processed[a] > processed[b]; });
  const double max = processed[order[0]];
  std::vector<double> weights(processed.size());
  for (size_t rank = 0; rank < order.size(); ++rank) {
    if (sampling.top_k > 0 && rank >= static_cast<size_t>(sampling.top_k)) break;
    weights[order[rank]] = std::exp((processed[order[rank]] - max) / sampling.temperature);
  }
  Normalize(weights);
  double before = 0;
  for (size_t id : order) {
    const double weight = weights[id];
    if (before >= sampling.top_p || weight < sampling.min_p * weights[order[0]]) weights[id] = 0;
    before += weight;
  }
  Normalize(weights);
  return weights;
}

double ChiSquarePValue(std::span<const int32_t> draws, const std::vector<double>& probabilities) {
  constexpr double kFewest = 10;
  std::vector<double> counts(probabilities.size());
  for (int32_t id : draws) ++counts[id];
  double chi_square = 0;
  int cells = 0;
  const auto add = [&](double count, double mean) {
    chi_square += (count - mean) * (count - mean) / mean;
    ++cells;
  };
  double rest_mean = 0;
  double rest_count = 0;
  for (size_t id = 0; id < counts.size(); ++id) {
    const double mean = probabilities[id] * static_cast<double>(draws.size());
    if (mean == 0 && counts[id] > 0) return 0;
    if (mean >= kFewest) {
      add(counts[id], mean);
    } else {
      rest_mean += mean;
      rest_count += counts[id];
    }
  }
  if (rest_mean > 0) add(rest_count, rest_mean);
  if (cells < 2) return 1;
  const double freedom = cells - 1;
  const double variance = 2 / (9 * freedom);
  const double z = (std::cbrt(chi_square / freedom) - (1 - variance)) / std::sqrt(variance);
  return 0.5 * std::erfc(z / std::sqrt(2.0));
}

TokenCounts CountsOf(std::span<const int32_t> prompt, std::span<const int32_t> output) {
  TokenCounts counts;
  for (int32_t token : prompt) counts[token].in_prompt = true;
  for (int32_t token : output) ++counts[token].in_output;
  return counts;
}

}  // namespace lockstep::worker
