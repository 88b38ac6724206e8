// The scan goes in pieces of fixed size, merged in order, so that neither the number of threads nor
// chance decides how a sum is rounded.
#include "worker/shard_scan.h"

#include <algorithm>
#include <cmath>

namespace lockstep::worker {
namespace {

constexpr int64_t kPiece = 8192;

Candidate HighestLogit(std::span<const float> logits, int32_t first_id) {
  Candidate best;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] > best.logit) best = {logits[i], first_id + static_cast<int32_t>(i)};
  }
  return best;
}

double SumOfExp(std::span<const float> logits, float max, double inverse_temperature) {
  double sum = 0;
  for (float logit : logits) {
    sum += std::exp((static_cast<double>(logit) - max) * inverse_temperature);
  }
  return sum;
}

void FindNoisy(std::span<const float> logits, int32_t first_id, const Noise& noise,
               double inverse_temperature, ShardSummary& summary) {
  for (size_t i = 0; i < logits.size(); ++i) {
    int32_t id = first_id + static_cast<int32_t>(i);
    double warm = logits[i] * inverse_temperature;
    // The exact noise takes two logarithms; few ids can win.
    if (!(warm + noise.UpperBound(id) > summary.noisy_score)) continue;
    double score = warm + noise.Gumbel(id);
    if (score > summary.noisy_score) {
      summary.noisy_score = score;
      summary.noisy = {logits[i], id};
    }
  }
}

ShardSummary ScanPiece(std::span<const float> logits, int32_t first_id,
                       const ScanRequest& request) {
  ShardSummary summary;
  summary.best = HighestLogit(logits, first_id);
  if (request.raw_sum) summary.raw_sum = SumOfExp(logits, summary.best.logit, 1);
  if (request.warm_sum) {
    summary.warm_sum = SumOfExp(logits, summary.best.logit, request.inverse_temperature);
  }
  if (request.noise) {
    FindNoisy(logits, first_id, *request.noise, request.inverse_temperature, summary);
  }
  int64_t target = request.target - first_id;
  if (request.target >= 0 && target >= 0 && target < static_cast<int64_t>(logits.size())) {
    summary.target = {logits[target], request.target};
  }
  return summary;
}

// A shard without ids has a best of -inf, and -inf - -inf is not a number.
double Rescaled(double sum, float from, float to, double inverse_temperature) {
  return sum == 0 ? 0 : sum * std::exp((static_cast<double>(from) - to) * inverse_temperature);
}

}  // namespace

ShardSummary Merge(const ShardSummary& a, const ShardSummary& b, double inverse_temperature) {
  ShardSummary merged;
  merged.best = b.best.logit > a.best.logit ? b.best : a.best;
  float max = merged.best.logit;
  merged.raw_sum =
      Rescaled(a.raw_sum, a.best.logit, max, 1) + Rescaled(b.raw_sum, b.best.logit, max, 1);
  merged.warm_sum = Rescaled(a.warm_sum, a.best.logit, max, inverse_temperature) +
                    Rescaled(b.warm_sum, b.best.logit, max, inverse_temperature);
  bool b_wins = b.noisy_score > a.noisy_score;
  merged.noisy = b_wins ? b.noisy : a.noisy;
  merged.noisy_score = b_wins ? b.noisy_score : a.noisy_score;
  merged.target = a.target.id >= 0 ? a.target : b.target;
  return merged;
}

std::vector<ShardSummary> Scan(kernels::ConstMatrix logits, int32_t first_id,
                               std::span<const ScanRequest> requests, kernels::ThreadPool& pool) {
  const int64_t pieces = (logits.cols + kPiece - 1) / kPiece;
  std::vector<ShardSummary> parts(requests.size() * pieces);
  pool.ParallelFor(static_cast<int64_t>(parts.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      int64_t row = part / pieces;
      int64_t first = part % pieces * kPiece;
      std::span<const float> piece(logits.row(row) + first, std::min(kPiece, logits.cols - first));
      parts[part] = ScanPiece(piece, first_id + static_cast<int32_t>(first), requests[row]);
    }
  });
  std::vector<ShardSummary> summaries(requests.size());
  for (size_t row = 0; row < requests.size(); ++row) {
    for (int64_t piece = 0; piece < pieces; ++piece) {
      const ShardSummary& part = parts[row * pieces + piece];
      summaries[row] =
          piece == 0 ? part : Merge(summaries[row], part, requests[row].inverse_temperature);
    }
  }
  return summaries;
}

std::vector<Candidate> TopCandidates(std::span<const float> logits, int32_t first_id,
                                     int64_t count) {
  std::vector<Candidate> all(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    all[i] = {logits[i], first_id + static_cast<int32_t>(i)};
  }
  size_t kept = std::min<size_t>(count, all.size());
  std::partial_sort(all.begin(), all.begin() + kept, all.end(), Precedes);
  all.resize(kept);
  all.resize(count);
  return all;
}

}  // namespace lockstep::worker
