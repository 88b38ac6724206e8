// All three criteria keep a prefix of the ids in order of probability; the shortest one counts.
#include "worker/kept_candidates.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace lockstep::worker {
namespace {

// The logit's distance below the highest, in units of the temperature; at most 0.
double Warm(const WarmRow& row, float logit) {
  return (static_cast<double>(logit) - row.max) * row.inverse_temperature;
}

double MassOf(const WarmRow& row, std::span<const Candidate> candidates) {
  double mass = 0;
  for (const Candidate& candidate : candidates) mass += std::exp(Warm(row, candidate.logit));
  return mass;
}

// The length of the shortest prefix that holds `mass`; nullopt when all of it does not.
std::optional<size_t> CoveringPrefix(const WarmRow& row, std::span<const Candidate> sorted,
                                     double mass) {
  double sum = 0;
  for (size_t i = 0; i < sorted.size(); ++i) {
    sum += std::exp(Warm(row, sorted[i].logit));
    if (sum >= mass) return i + 1;
  }
  return std::nullopt;
}

bool MinPKeeps(const WarmRow& row, float logit) {
  return Warm(row, logit) >= std::log(row.sampling->min_p);
}

}  // namespace

std::optional<std::span<const Candidate>> Kept(const WarmRow& row,
                                               std::span<const Candidate> sorted, bool complete) {
  const Sampling& sampling = *row.sampling;
  double total = row.total;
  if (sampling.top_k > 0) {
    sorted = sorted.first(std::min<size_t>(sorted.size(), sampling.top_k));
    total = MassOf(row, sorted);
    complete = true;
  }
  size_t kept = sorted.size();
  if (sampling.top_p < 1) {
    // Rounding may leave the sum of everything a hair below the total.
    if (auto prefix = CoveringPrefix(row, sorted, sampling.top_p * total)) {
      kept = *prefix;
      complete = true;
    }
  }
  if (sampling.min_p > 0) {
    const auto end = std::partition_point(
        sorted.begin(), sorted.end(),
        [&](const Candidate& candidate) { return MinPKeeps(row, candidate.logit); });
    complete = complete || end != sorted.end();
    kept = std::min<size_t>(kept, end - sorted.begin());
  }
  return complete ? std::optional(sorted.first(kept)) : std::nullopt;
}

Cutoff MinPCutoff(const WarmRow& row) {
  if (row.sampling->min_p == 0) return {};
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  auto logit =
      static_cast<float>(row.max + std::log(row.sampling->min_p) / row.inverse_temperature);
  // The lowest one that is kept may be a rounding away.
  while (MinPKeeps(row, logit)) logit = std::nextafter(logit, -kInfinity);
  while (!MinPKeeps(row, logit)) logit = std::nextafter(logit, kInfinity);
  return {.logit = logit};
}

Candidate NoisyWinner(std::span<const Candidate> kept, double inverse_temperature,
                      const Noise& noise) {
  Candidate winner;
  double best = -std::numeric_limits<double>::infinity();
  for (const Candidate& candidate : kept) {
    const double warm = candidate.logit * inverse_temperature;
    // The exact noise takes two logarithms; few ids can win.
    if (warm + noise.UpperBound(candidate.id) < best) continue;
    const double score = warm + noise.Gumbel(candidate.id);
    if (score > best || (score == best && candidate.id < winner.id)) {
      best = score;
      winner = candidate;
    }
  }
  return winner;
}

}  // namespace lockstep::worker
