// Every rank computes the same choice from the same exchanged bytes, so that no token needs to be
// sent around.
#include "worker/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace lockstep::worker {
namespace {

bool IsGreedy(const Sampling& sampling) { return sampling.temperature == 0; }

bool KeepsAll(const Sampling& sampling) { return sampling.top_k == 0 && sampling.top_p >= 1; }

double InverseTemperature(const LogitRow& row) {
  return row.sampling == nullptr || IsGreedy(*row.sampling) ? 1 : 1 / row.sampling->temperature;
}

Noise NoiseOf(const LogitRow& row) {
  return Noise(row.sampling->seed, row.sampling->choice, row.position);
}

// How many candidates each shard sends for the row; 0 when it needs none or all logits.
int64_t CandidateCount(const LogitRow& row) {
  if (row.sampling == nullptr || IsGreedy(*row.sampling) || KeepsAll(*row.sampling)) return 0;
  if (row.sampling->top_k == 0) return Sampler::kTopPCandidates;
  return row.sampling->top_k <= Sampler::kMaxCandidates ? row.sampling->top_k : 0;
}

ScanRequest ScanFor(const LogitRow& row) {
  ScanRequest request;
  request.target = row.target;
  request.raw_sum = row.logprob || row.sampling == nullptr;
  if (row.sampling == nullptr || IsGreedy(*row.sampling)) return request;
  request.inverse_temperature = InverseTemperature(row);
  if (KeepsAll(*row.sampling)) request.noise = NoiseOf(row);
  request.warm_sum = row.sampling->top_p < 1;
  return request;
}

// The shortest prefix of `sorted` that holds `top_p` of `total`; nullopt when all of it does not.
std::optional<size_t> CoveringPrefix(std::span<const Candidate> sorted, double top_p, double total,
                                     float max, double inverse_temperature) {
  double sum = 0;
  for (size_t i = 0; i < sorted.size(); ++i) {
    sum += std::exp((static_cast<double>(sorted[i].logit) - max) * inverse_temperature);
    if (sum >= top_p * total) return i + 1;
  }
  return std::nullopt;
}

double WarmSum(std::span<const Candidate> candidates, float max, double inverse_temperature) {
  double sum = 0;
  for (const Candidate& candidate : candidates) {
    sum += std::exp((static_cast<double>(candidate.logit) - max) * inverse_temperature);
  }
  return sum;
}

// The ids that top_k and top_p keep, given candidates in order; nullopt when there are too few of
// them to tell.
std::optional<std::span<const Candidate>> Kept(const LogitRow& row, const ShardSummary& summary,
                                               std::span<const Candidate> sorted, bool complete) {
  const Sampling& sampling = *row.sampling;
  const double inverse_temperature = InverseTemperature(row);
  const float max = summary.best.logit;
  double total = summary.warm_sum;
  if (sampling.top_k > 0) {
    sorted = sorted.first(std::min<size_t>(sorted.size(), sampling.top_k));
    total = WarmSum(sorted, max, inverse_temperature);
    complete = true;
  }
  if (sampling.top_p >= 1) return sorted;
  auto prefix = CoveringPrefix(sorted, sampling.top_p, total, max, inverse_temperature);
  if (prefix) return sorted.first(*prefix);
  // Rounding may leave the sum of everything a hair below the total.
  return complete ? std::optional(sorted) : std::nullopt;
}

Candidate NoisyWinner(const LogitRow& row, std::span<const Candidate> kept) {
  const Noise noise = NoiseOf(row);
  const double inverse_temperature = InverseTemperature(row);
  Candidate winner;
  double best = -std::numeric_limits<double>::infinity();
  for (const Candidate& candidate : kept) {
    const double warm = candidate.logit * inverse_temperature;
    // The exact noise takes two logarithms; few ids can win.
    if (warm + noise.UpperBound(candidate.id) < best) continue;
    double score = warm + noise.Gumbel(candidate.id);
    if (score > best || (score == best && candidate.id < winner.id)) {
      best = score;
      winner = candidate;
    }
  }
  return winner;
}

// With the logits of the whole vocabulary: sorts no more of them than are kept, which is mostly
// few.
Candidate DrawFromAll(const LogitRow& row, const ShardSummary& summary,
                      std::vector<Candidate>& all) {
  constexpr size_t kFirstPrefix = 1024;
  for (size_t prefix = std::max<size_t>(kFirstPrefix, row.sampling->top_k);; prefix *= 8) {
    const size_t count = std::min(prefix, all.size());
    std::partial_sort(all.begin(), all.begin() + count, all.end(), Precedes);
    auto kept = Kept(row, summary, std::span(all).first(count), count == all.size());
    if (kept) return NoisyWinner(row, *kept);
  }
}

// Row `row` of every rank's `rows` summaries, in rank order.
ShardSummary MergeRow(std::span<const ShardSummary> all, size_t row, size_t rows,
                      const ScanRequest& request) {
  ShardSummary merged = all[row];
  for (size_t i = row + rows; i < all.size(); i += rows) {
    merged = Merge(merged, all[i], request.inverse_temperature);
  }
  return merged;
}

// The `count` first of all ranks' candidates at [begin, begin + count) of their `per_rank`.
std::vector<Candidate> MergeCandidates(std::span<const Candidate> all, size_t per_rank,
                                       size_t begin, size_t count) {
  std::vector<Candidate> merged;
  if (count == 0) return merged;
  for (size_t first = begin; first < all.size(); first += per_rank) {
    for (const Candidate& candidate : all.subspan(first, count)) {
      if (candidate.id >= 0) merged.push_back(candidate);
    }
  }
  std::sort(merged.begin(), merged.end(), Precedes);
  // Beyond `count` a shard may have had better ones that it did not send.
  if (merged.size() > count) merged.resize(count);
  return merged;
}

template <typename T>
std::span<const std::byte> BytesOf(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

}  // namespace

absl::StatusOr<std::vector<Choice>> Sampler::Choose(kernels::ConstMatrix logits,
                                                    std::span<const LogitRow> rows) {
  LOCKSTEP_ASSIGN_OR_RETURN(Exchanged exchanged, Exchange(logits, rows));
  std::vector<Choice> choices(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    const ShardSummary& summary = exchanged.summaries[i];
    if (!std::isfinite(summary.best.logit)) {
      return absl::InternalError(
          absl::StrCat("the logits for position ", rows[i].position, " are not finite"));
    }
    Candidate chosen = summary.target;
    if (rows[i].sampling != nullptr) {
      std::span<const float> row(logits.row(static_cast<int64_t>(i)), logits.cols);
      LOCKSTEP_ASSIGN_OR_RETURN(chosen, Draw(rows[i], row, summary, exchanged.candidates[i]));
    }
    choices[i].token = chosen.id;
    if (rows[i].logprob || rows[i].sampling == nullptr) {
      double log_sum = summary.best.logit + std::log(summary.raw_sum);
      choices[i].logprob = static_cast<float>(chosen.logit - log_sum);
    }
  }
  return choices;
}

absl::StatusOr<Sampler::Exchanged> Sampler::Exchange(kernels::ConstMatrix logits,
                                                     std::span<const LogitRow> rows) {
  const int32_t first_id = static_cast<int32_t>(vocab_.begin);
  std::vector<ScanRequest> requests;
  std::vector<size_t> begins = {0};  // of each row's candidates within `mine`
  for (const LogitRow& row : rows) {
    requests.push_back(ScanFor(row));
    begins.push_back(begins.back() + CandidateCount(row));
  }
  std::vector<Candidate> mine(begins.back());
  pool_.ParallelFor(static_cast<int64_t>(rows.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (begins[i] == begins[i + 1]) continue;
      std::span<const float> row(logits.row(i), logits.cols);
      std::ranges::copy(TopCandidates(row, first_id, CandidateCount(rows[i])),
                        mine.begin() + begins[i]);
    }
  });
  std::vector<ShardSummary> summaries = Scan(logits, first_id, requests, pool_);

  const int ranks = tensor_.size();
  std::vector<ShardSummary> all_summaries(summaries.size() * ranks);
  LOCKSTEP_RETURN_IF_ERROR(
      tensor_.AllGather(BytesOf(summaries), std::as_writable_bytes(std::span(all_summaries))));
  std::vector<Candidate> all(mine.size() * ranks);
  if (!mine.empty()) {
    LOCKSTEP_RETURN_IF_ERROR(
        tensor_.AllGather(BytesOf(mine), std::as_writable_bytes(std::span(all))));
  }

  Exchanged exchanged;
  for (size_t i = 0; i < rows.size(); ++i) {
    exchanged.summaries.push_back(MergeRow(all_summaries, i, rows.size(), requests[i]));
    exchanged.candidates.push_back(
        MergeCandidates(all, mine.size(), begins[i], begins[i + 1] - begins[i]));
  }
  return exchanged;
}

absl::StatusOr<Candidate> Sampler::Draw(const LogitRow& row, std::span<const float> logits,
                                        const ShardSummary& summary,
                                        std::span<const Candidate> candidates) {
  if (IsGreedy(*row.sampling)) return summary.best;
  if (KeepsAll(*row.sampling)) return summary.noisy;
  if (!candidates.empty()) {
    if (auto kept = Kept(row, summary, candidates, /*complete=*/false)) {
      return NoisyWinner(row, *kept);
    }
  }
  LOCKSTEP_ASSIGN_OR_RETURN(std::vector<Candidate> all, GatherAll(logits));
  return DrawFromAll(row, summary, all);
}

absl::StatusOr<std::vector<Candidate>> Sampler::GatherAll(std::span<const float> logits) {
  std::vector<float> mine(slice_, -std::numeric_limits<float>::infinity());
  std::copy(logits.begin(), logits.end(), mine.begin());
  std::vector<float> all(slice_ * tensor_.size());
  LOCKSTEP_RETURN_IF_ERROR(
      tensor_.AllGather(BytesOf(mine), std::as_writable_bytes(std::span(all))));
  std::vector<Candidate> candidates;
  for (size_t id = 0; id < all.size(); ++id) {
    if (std::isfinite(all[id])) candidates.push_back({all[id], static_cast<int32_t>(id)});
  }
  return candidates;
}

}  // namespace lockstep::worker
