// The scan goes in pieces of fixed size, merged in order, so that neither the number of threads nor
// chance decides how a sum is rounded. A piece fits into the first-level cache, where its several
// loops find it.
#include "worker/shard_scan.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

#include "worker/scan_kernels.h"

namespace lockstep::worker {
namespace {

constexpr int64_t kPiece = 8192;
static_assert(kPiece % kMaximaBlock == 0);
constexpr float kLowest = -std::numeric_limits<float>::infinity();

/// Consecutive ids of a row and their block maxima.
struct Piece {
  std::span<const float> logits;
  std::span<const float> maxima;
  int32_t first_id;

  int64_t size() const { return static_cast<int64_t>(logits.size()); }
  /// `begin` is a multiple of kMaximaBlock.
  Piece Part(int64_t begin, int64_t count) const {
    count = std::min(count, size() - begin);
    return {logits.subspan(begin, count), maxima.subspan(begin / kMaximaBlock, MaximaBlocks(count)),
            first_id + static_cast<int32_t>(begin)};
  }
};

Candidate HighestLogit(const Piece& piece) {
  if (piece.maxima.empty()) return {};
  const auto block = std::ranges::max_element(piece.maxima);
  if (!std::isfinite(*block)) return {*block, -1};
  const Piece part = piece.Part((block - piece.maxima.begin()) * kMaximaBlock, kMaximaBlock);
  const int64_t index = FirstAbove(part.logits, 0, std::nextafter(*block, kLowest));
  return {*block, part.first_id + static_cast<int32_t>(index)};
}

void TakeNoisy(const ScanRequest& request, const Candidate& candidate, ShardSummary& summary) {
  const double score =
      candidate.logit * request.inverse_temperature + request.noise->Gumbel(candidate.id);
  const bool is_better = score > summary.noisy_score ||
                         (score == summary.noisy_score && candidate.id < summary.noisy.id);
  if (!is_better || !request.cutoff.Keeps(candidate)) return;
  summary.noisy_score = score;
  summary.noisy = candidate;
}

// Looks for ids whose noisy score exceeds summary.noisy_score: in each block those alone whose
// noise would lift the block's highest logit above it.
void FindNoisy(const ScanRequest& request, const Piece& piece, ShardSummary& summary) {
  if (!std::isfinite(summary.best.logit)) return;
  // A good score from the start spares most of the search.
  TakeNoisy(request, summary.best, summary);
  std::array<double, kPiece / kMaximaBlock> fractions;
  ExpOf(piece.maxima, summary.best.logit, request.inverse_temperature, fractions);
  for (size_t block = 0; block < piece.maxima.size(); ++block) {
    if (piece.maxima[block] < request.cutoff.logit) fractions[block] = 0;
  }
  const double highest = summary.best.logit * request.inverse_temperature;
  const uint64_t start = request.noise->StreamAt(piece.first_id);
  for (int64_t i = 0;; ++i) {
    // Bounded, because zero times infinity is not a number.
    const double scale = std::min(std::exp(highest - summary.noisy_score), 1e300);
    i = FirstMixBelow(start, i, piece.size(), fractions, scale);
    if (i == piece.size()) return;
    const Candidate candidate{piece.logits[i], piece.first_id + static_cast<int32_t>(i)};
    const double warm = candidate.logit * request.inverse_temperature;
    // The exact noise takes two logarithms; few ids can win.
    if (warm + request.noise->UpperBound(candidate.id) < summary.noisy_score) continue;
    TakeNoisy(request, candidate, summary);
  }
}

// `to_beat`: a noisy score of lower ids of the row; lower ones need not be found.
ShardSummary ScanPiece(const ScanRequest& request, const Piece& piece, double to_beat) {
  ShardSummary summary;
  summary.best = HighestLogit(piece);
  const double max = summary.best.logit;
  if (request.raw_sum && std::isfinite(max)) summary.raw_sum = SumOfExp(piece.logits, max, 1);
  if (request.warm_sum && std::isfinite(max)) {
    summary.warm_sum = SumOfExp(piece.logits, max, request.inverse_temperature);
  }
  if (request.noise) {
    summary.noisy_score = to_beat;
    FindNoisy(request, piece, summary);
    if (summary.noisy.id < 0) summary.noisy_score = -std::numeric_limits<double>::infinity();
  }
  const int64_t target = request.target - piece.first_id;
  if (request.target >= 0 && target >= 0 && target < piece.size()) {
    summary.target = {piece.logits[target], request.target};
  }
  return summary;
}

// A logit that at least `count` of the row reach, or -inf.
float LowerBoundOfTop(const Piece& row, int64_t count) {
  const auto blocks = static_cast<int64_t>(row.maxima.size());
  if (blocks < count) return kLowest;
  std::vector<float> maxima(row.maxima.begin(), row.maxima.end());
  std::nth_element(maxima.begin(), maxima.begin() + count - 1, maxima.end(), std::greater<>());
  return maxima[count - 1];
}

// The `count` first candidates of the row by Precedes, in order; fewer if it has no more.
std::vector<Candidate> TopCandidates(const Piece& row, int64_t count) {
  const float bound = LowerBoundOfTop(row, count);
  const float below = std::isfinite(bound) ? std::nextafter(bound, kLowest) : bound;
  std::vector<Candidate> found;
  for (size_t block = 0; block < row.maxima.size(); ++block) {
    if (row.maxima[block] < bound) continue;
    const Piece part = row.Part(static_cast<int64_t>(block) * kMaximaBlock, kMaximaBlock);
    if (bound == kLowest) {
      for (int64_t i = 0; i < part.size(); ++i) {
        found.push_back({part.logits[i], part.first_id + static_cast<int32_t>(i)});
      }
      continue;
    }
    for (int64_t i = FirstAbove(part.logits, 0, below); i < part.size();
         i = FirstAbove(part.logits, i + 1, below)) {
      found.push_back({part.logits[i], part.first_id + static_cast<int32_t>(i)});
    }
  }
  if (static_cast<int64_t>(found.size()) > count) {
    std::nth_element(found.begin(), found.begin() + count - 1, found.end(), Precedes);
    found.resize(count);
  }
  std::sort(found.begin(), found.end(), Precedes);
  return found;
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

ScanResult Scan(std::span<const ScanRequest> requests, int32_t first_id,
                kernels::ThreadPool& pool) {
  ScanResult result;
  if (requests.empty()) return result;
  const auto count = static_cast<int64_t>(requests.size());
  const auto cols = static_cast<int64_t>(requests[0].logits.size());
  const int64_t pieces = (cols + kPiece - 1) / kPiece;
  std::vector<float> maxima(count * MaximaBlocks(cols));
  const auto row_of = [&](int64_t row) -> Piece {
    return {requests[row].logits,
            std::span(maxima).subspan(row * MaximaBlocks(cols), MaximaBlocks(cols)), first_id};
  };
  std::vector<ShardSummary> parts(count * pieces);
  pool.ParallelFor(count * pieces, 1, [&](int64_t begin, int64_t end) {
    double to_beat = 0;
    for (int64_t part = begin; part < end; ++part) {
      const int64_t row = part / pieces;
      const int64_t first = part % pieces * kPiece;
      // A row's best so far spares its later pieces most of the search.
      if (first == 0 || part == begin) to_beat = -std::numeric_limits<double>::infinity();
      const Piece piece = row_of(row).Part(first, kPiece);
      BlockMaxima(piece.logits,
                  std::span(maxima).subspan(row * MaximaBlocks(cols) + first / kMaximaBlock,
                                            piece.maxima.size()));
      parts[part] = ScanPiece(requests[row], piece, to_beat);
      to_beat = std::max(to_beat, parts[part].noisy_score);
    }
  });
  result.summaries.resize(count);
  std::vector<int64_t> begins = {0};  // of each request's candidates
  for (int64_t row = 0; row < count; ++row) {
    for (int64_t piece = 0; piece < pieces; ++piece) {
      const ShardSummary& part = parts[row * pieces + piece];
      ShardSummary& summary = result.summaries[row];
      summary = piece == 0 ? part : Merge(summary, part, requests[row].inverse_temperature);
    }
    begins.push_back(begins.back() + requests[row].candidates);
  }
  result.candidates.resize(begins.back());
  if (result.candidates.empty()) return result;
  pool.ParallelFor(count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      if (requests[row].candidates == 0) continue;
      std::ranges::copy(TopCandidates(row_of(row), requests[row].candidates),
                        result.candidates.begin() + begins[row]);
    }
  });
  return result;
}

}  // namespace lockstep::worker
