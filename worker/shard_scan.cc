// The scan goes in pieces of fixed size, merged in order, so that neither the number of threads nor
// chance decides how a sum is rounded. A piece fits into the first-level cache, where its several
// loops find it.
#include "worker/shard_scan.h"

#include <algorithm>
#include <cmath>

#include "worker/scan_kernels.h"

namespace lockstep::worker {
namespace {

constexpr int64_t kPiece = 8192;
// Ids that share one bound on the noise that they need.
constexpr int64_t kNoiseBlock = 256;
// No noise is higher: -log(-log(1 - 2^-53)) = 36.74.
constexpr double kHighestNoise = 36.8;

Candidate HighestLogit(std::span<const float> logits, int32_t first_id) {
  const float max = MaxOf(logits);
  if (!std::isfinite(max)) return {max, -1};
  const float below = std::nextafter(max, -std::numeric_limits<float>::infinity());
  return {max, first_id + static_cast<int32_t>(FirstAbove(logits, 0, below))};
}

// Looks for ids whose noisy score exceeds summary.noisy_score, in ascending order, so that ties
// stay with the lowest.
void FindNoisyInBlock(const ScanRequest& request, std::span<const float> logits, int32_t first_id,
                      ShardSummary& summary) {
  const Noise& noise = *request.noise;
  const float max = MaxOf(logits);
  if (max < request.cutoff.logit) return;
  const double highest = max * request.inverse_temperature;
  const uint64_t start = noise.StreamAt(first_id);
  const int64_t count = static_cast<int64_t>(logits.size());
  for (int64_t i = 0;; ++i) {
    const double needed = summary.noisy_score - highest;
    if (needed > kHighestNoise) return;
    i = FirstMixBelow(start, i, count, Noise::BitsThreshold(needed));
    if (i == count) return;
    const Candidate candidate{logits[i], first_id + static_cast<int32_t>(i)};
    const double warm = candidate.logit * request.inverse_temperature;
    // The exact noise takes two logarithms; few ids can win.
    if (!(warm + noise.UpperBound(candidate.id) > summary.noisy_score)) continue;
    const double score = warm + noise.Gumbel(candidate.id);
    if (score > summary.noisy_score && request.cutoff.Keeps(candidate)) {
      summary.noisy_score = score;
      summary.noisy = candidate;
    }
  }
}

// `to_beat`: a noisy score of lower ids of the row; lower ones need not be found.
ShardSummary ScanPiece(const ScanRequest& request, int64_t begin, int64_t end, int32_t first_id,
                       double to_beat) {
  const std::span<const float> logits = request.logits.subspan(begin, end - begin);
  first_id += static_cast<int32_t>(begin);
  ShardSummary summary;
  summary.best = HighestLogit(logits, first_id);
  const double max = summary.best.logit;
  if (request.raw_sum && std::isfinite(max)) summary.raw_sum = SumOfExp(logits, max, 1);
  if (request.warm_sum && std::isfinite(max)) {
    summary.warm_sum = SumOfExp(logits, max, request.inverse_temperature);
  }
  if (request.noise) {
    summary.noisy_score = to_beat;
    for (int64_t i = 0; i < end - begin; i += kNoiseBlock) {
      FindNoisyInBlock(request, logits.subspan(i, std::min(kNoiseBlock, end - begin - i)),
                       first_id + static_cast<int32_t>(i), summary);
    }
    if (summary.noisy.id < 0) summary.noisy_score = -std::numeric_limits<double>::infinity();
  }
  const int64_t target = request.target - first_id;
  if (request.target >= 0 && target >= 0 && target < end - begin) {
    summary.target = {logits[target], request.target};
  }
  return summary;
}

// A part without ids has a best of -inf, and -inf - -inf is not a number.
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

std::vector<ShardSummary> Scan(std::span<const ScanRequest> requests, int32_t first_id,
                               kernels::ThreadPool& pool) {
  if (requests.empty()) return {};
  const int64_t cols = static_cast<int64_t>(requests[0].logits.size());
  const int64_t pieces = (cols + kPiece - 1) / kPiece;
  std::vector<ShardSummary> parts(requests.size() * pieces);
  pool.ParallelFor(static_cast<int64_t>(parts.size()), 1, [&](int64_t begin, int64_t end) {
    double to_beat = 0;
    for (int64_t part = begin; part < end; ++part) {
      const int64_t piece = part % pieces;
      // A row's best so far spares its later pieces most of the search.
      if (piece == 0 || part == begin) to_beat = -std::numeric_limits<double>::infinity();
      parts[part] = ScanPiece(requests[part / pieces], piece * kPiece,
                              std::min((piece + 1) * kPiece, cols), first_id, to_beat);
      to_beat = std::max(to_beat, parts[part].noisy_score);
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
  std::vector<Candidate> found;
  if (count == 0) return found;
  const int64_t size = static_cast<int64_t>(logits.size());
  const size_t room = 2 * static_cast<size_t>(count);
  found.reserve(room);
  const auto add = [&](int64_t i) {
    found.push_back({logits[i], first_id + static_cast<int32_t>(i)});
  };
  for (int64_t i = 0; i < std::min(size, count); ++i) add(i);
  if (size > count) {
    float threshold = std::min_element(found.begin(), found.end(), [](auto& a, auto& b) {
                        return a.logit < b.logit;
                      })->logit;
    // An id that only equals the threshold comes after `count` better ones.
    for (int64_t i = FirstAbove(logits, count, threshold); i < size;
         i = FirstAbove(logits, i + 1, threshold)) {
      add(i);
      if (found.size() < room) continue;
      std::nth_element(found.begin(), found.begin() + count - 1, found.end(), Precedes);
      found.resize(count);
      threshold = found.back().logit;
    }
  }
  std::sort(found.begin(), found.end(), Precedes);
  found.resize(count);
  return found;
}

}  // namespace lockstep::worker
