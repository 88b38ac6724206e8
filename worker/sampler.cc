// Every rank computes the same choice from the same exchanged bytes, so that no token needs to be
// sent around.
#include "worker/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "worker/cutoff_search.h"
#include "worker/kept_candidates.h"
#include "worker/logit_processing.h"

namespace lockstep::worker {
namespace {

bool IsGreedy(const Sampling& sampling) {
  return sampling.temperature < Sampler::kLowestTemperature;
}

bool KeepsAll(const Sampling& sampling) {
  return sampling.top_k == 0 && sampling.top_p >= 1 && sampling.min_p == 0;
}

bool IsProcessed(const LogitRow& row) {
  return row.sampling != nullptr && ChangesLogits(*row.sampling, row.generated);
}

bool WantsLogprobs(const LogitRow& row) {
  return row.sampling == nullptr || row.logprob || row.alternatives > 0;
}

Noise NoiseOf(const LogitRow& row) {
  return Noise(row.sampling->seed, row.sampling->choice, row.position);
}

// How many candidates each shard sends for drawing; 0 when that needs none or more than are sent.
int64_t DrawCandidates(const Sampling& sampling) {
  if (IsGreedy(sampling) || KeepsAll(sampling)) return 0;
  if (sampling.top_k == 0) return Sampler::kCandidates;
  return sampling.top_k <= Sampler::kMaxCandidates ? sampling.top_k : 0;
}

void AskForReport(const LogitRow& row, ScanRequest& request) {
  request.target = row.target;
  request.raw_sum = WantsLogprobs(row);
  request.candidates = row.alternatives;
}

void AskForDraw(const LogitRow& row, ScanRequest& request) {
  const Sampling& sampling = *row.sampling;
  if (IsGreedy(sampling)) return;
  request.inverse_temperature = 1 / sampling.temperature;
  if (KeepsAll(sampling)) request.noise = NoiseOf(row);
  request.warm_sum = sampling.top_p < 1;
  request.candidates = std::max(request.candidates, DrawCandidates(sampling));
}

// Entry `index` of every rank's `count` entries, merged in rank order.
ShardSummary MergeOverRanks(std::span<const ShardSummary> all, size_t index, size_t count,
                            double inverse_temperature) {
  ShardSummary merged = all[index];
  for (size_t i = index + count; i < all.size(); i += count) {
    merged = Merge(merged, all[i], inverse_temperature);
  }
  return merged;
}

// The first `count` of all ranks' candidates, which stand at [begin, begin + count) of each rank's
// `per_rank`.
std::vector<Candidate> MergeCandidates(std::span<const Candidate> all, size_t per_rank,
                                       size_t begin, size_t count) {
  std::vector<Candidate> merged;
  if (count == 0) return merged;
  for (size_t first = begin; first < all.size(); first += per_rank) {
    const size_t middle = merged.size();
    for (const Candidate& candidate : all.subspan(first, count)) {
      if (candidate.id >= 0) merged.push_back(candidate);
    }
    std::inplace_merge(merged.begin(), merged.begin() + middle, merged.end(), Precedes);
    // Beyond `count` a shard may have had better ones that it did not send.
    if (merged.size() > count) merged.resize(count);
  }
  return merged;
}

WarmRow WarmRowOf(const LogitRow& row, const ShardSummary& summary) {
  return {row.sampling, summary.best.logit, 1 / row.sampling->temperature, summary.warm_sum};
}

// A row whose candidates do not tell which ids it keeps.
struct OpenRow {
  WarmRow warm;
  ScanRequest request;  // of the draw, with the cutoff as far as it is known
};

// Applies top_k (kCount) or top_p (kMass) to the rows that have it.
absl::Status Restrict(std::span<OpenRow> rows, CutoffQuery::Weight weight, int32_t first_id,
                      Collective& tensor, kernels::ThreadPool& pool) {
  const bool by_count = weight == CutoffQuery::Weight::kCount;
  std::vector<OpenRow*> asking;
  std::vector<CutoffQuery> queries;
  for (OpenRow& row : rows) {
    const Sampling& sampling = *row.warm.sampling;
    if (by_count ? sampling.top_k == 0 : sampling.top_p >= 1) continue;
    const double target = by_count ? sampling.top_k : sampling.top_p * row.warm.total;
    asking.push_back(&row);
    queries.push_back(
        {row.request.logits, row.warm.max, row.warm.inverse_temperature, weight, target});
  }
  if (queries.empty()) return absl::OkStatus();
  LOCKSTEP_ASSIGN_OR_RETURN(std::vector<CutoffAnswer> answers,
                            FindCutoffs(queries, first_id, tensor, pool));
  for (size_t i = 0; i < asking.size(); ++i) {
    asking[i]->request.cutoff = Stricter(asking[i]->request.cutoff, answers[i].cutoff);
    asking[i]->warm.total = answers[i].mass;
  }
  return absl::OkStatus();
}

ScoredToken Scored(const Candidate& candidate, double log_sum) {
  return {candidate.id, static_cast<float>(candidate.logit - log_sum)};
}

template <typename T>
absl::StatusOr<std::vector<T>> AllGather(Collective& tensor, const std::vector<T>& mine) {
  std::vector<T> all(mine.size() * tensor.size());
  if (mine.empty()) return all;
  LOCKSTEP_RETURN_IF_ERROR(
      tensor.AllGather(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all))));
  return all;
}

}  // namespace

absl::StatusOr<std::vector<Choice>> Sampler::Choose(kernels::ConstMatrix logits,
                                                    std::span<const LogitRow> rows) {
  const Scans scans = PlanScans(logits, rows);
  LOCKSTEP_ASSIGN_OR_RETURN(std::vector<Scanned> scanned, ScanAndExchange(scans.requests));
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t scan : {i, scans.draw[i]}) {
      if (!std::isfinite(scanned[scan].summary.best.logit)) {
        return absl::InternalError(
            absl::StrCat("the logits for position ", rows[i].position, " are not finite"));
      }
    }
  }
  LOCKSTEP_ASSIGN_OR_RETURN(std::vector<Candidate> drawn, Draw(rows, scans, scanned));
  for (size_t i = 0; i < rows.size(); ++i) {
    if (drawn[i].id >= 0) continue;
    return absl::InternalError(absl::StrCat("no token was found for position ", rows[i].position));
  }
  LOCKSTEP_RETURN_IF_ERROR(FetchRawLogits(logits, rows, scans, drawn));
  std::vector<Choice> choices(rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    choices[i].token = drawn[i].id;
    if (!WantsLogprobs(rows[i])) continue;
    const Scanned& raw = scanned[i];
    const double log_sum = raw.summary.best.logit + std::log(raw.summary.raw_sum);
    choices[i].logprob = Scored(drawn[i], log_sum).logprob;
    const size_t count = std::min<size_t>(rows[i].alternatives, raw.candidates.size());
    for (const Candidate& candidate : std::span(raw.candidates).first(count)) {
      choices[i].alternatives.push_back(Scored(candidate, log_sum));
    }
  }
  return choices;
}

Sampler::Scans Sampler::PlanScans(kernels::ConstMatrix logits, std::span<const LogitRow> rows) {
  Scans scans;
  std::vector<size_t> changed;
  for (size_t i = 0; i < rows.size(); ++i) {
    ScanRequest& raw = scans.requests.emplace_back();
    raw.logits = {logits.row(static_cast<int64_t>(i)), static_cast<size_t>(logits.cols)};
    AskForReport(rows[i], raw);
    scans.draw.push_back(IsProcessed(rows[i]) ? rows.size() + changed.size() : i);
    if (IsProcessed(rows[i])) {
      changed.push_back(i);
    } else if (rows[i].sampling != nullptr) {
      AskForDraw(rows[i], raw);
    }
  }
  processed_.resize(std::max(processed_.size(), changed.size() * logits.cols));
  pool_.ParallelFor(static_cast<int64_t>(changed.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const LogitRow& row = rows[changed[k]];
      const std::span<float> copy(processed_.data() + k * logits.cols, logits.cols);
      std::ranges::copy(scans.requests[changed[k]].logits, copy.begin());
      ProcessLogits(*row.sampling, row.counts, row.generated, vocab_size_,
                    static_cast<int32_t>(vocab_.begin), copy);
    }
  });
  for (size_t k = 0; k < changed.size(); ++k) {
    ScanRequest& draw = scans.requests.emplace_back();
    draw.logits = {processed_.data() + k * logits.cols, static_cast<size_t>(logits.cols)};
    AskForDraw(rows[changed[k]], draw);
  }
  for (ScanRequest& request : scans.requests) {
    request.candidates = std::min(request.candidates, vocab_size_);
  }
  return scans;
}

absl::StatusOr<std::vector<Sampler::Scanned>> Sampler::ScanAndExchange(
    std::span<const ScanRequest> requests) {
  const ScanResult mine = Scan(requests, static_cast<int32_t>(vocab_.begin), pool_);
  LOCKSTEP_ASSIGN_OR_RETURN(std::vector<ShardSummary> summaries,
                            AllGather(tensor_, mine.summaries));
  LOCKSTEP_ASSIGN_OR_RETURN(std::vector<Candidate> candidates, AllGather(tensor_, mine.candidates));
  std::vector<Scanned> scanned;
  size_t begin = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    const size_t count = requests[i].candidates;
    scanned.push_back(
        {MergeOverRanks(summaries, i, requests.size(), requests[i].inverse_temperature),
         MergeCandidates(candidates, mine.candidates.size(), begin, count)});
    begin += count;
  }
  return scanned;
}

absl::StatusOr<std::vector<Candidate>> Sampler::Draw(std::span<const LogitRow> rows,
                                                     const Scans& scans,
                                                     std::span<const Scanned> scanned) {
  std::vector<Candidate> drawn(rows.size());
  std::vector<char> is_open(rows.size());
  const auto draw = [&](size_t i) -> std::optional<Candidate> {
    const LogitRow& row = rows[i];
    const Scanned& scan = scanned[scans.draw[i]];
    if (row.sampling == nullptr) return scan.summary.target;
    if (IsGreedy(*row.sampling)) return scan.summary.best;
    if (KeepsAll(*row.sampling)) return scan.summary.noisy;
    if (DrawCandidates(*row.sampling) == 0) return std::nullopt;
    const bool complete = static_cast<int64_t>(scan.candidates.size()) == vocab_size_;
    const WarmRow warm = WarmRowOf(row, scan.summary);
    const auto kept = Kept(warm, scan.candidates, complete);
    if (!kept) return std::nullopt;
    return NoisyWinner(*kept, warm.inverse_temperature, NoiseOf(row));
  };
  pool_.ParallelFor(static_cast<int64_t>(rows.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const std::optional<Candidate> candidate = draw(i);
      drawn[i] = candidate.value_or(Candidate());
      is_open[i] = !candidate;
    }
  });
  std::vector<size_t> open;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (is_open[i]) open.push_back(i);
  }
  if (!open.empty()) {
    LOCKSTEP_RETURN_IF_ERROR(DrawByCutoff(rows, scans, scanned, open, drawn));
  }
  return drawn;
}

absl::Status Sampler::DrawByCutoff(std::span<const LogitRow> rows, const Scans& scans,
                                   std::span<const Scanned> scanned, std::span<const size_t> open,
                                   std::span<Candidate> drawn) {
  std::vector<OpenRow> open_rows;
  for (size_t i : open) {
    const WarmRow warm = WarmRowOf(rows[i], scanned[scans.draw[i]].summary);
    const ScanRequest request{.logits = scans.requests[scans.draw[i]].logits,
                              .inverse_temperature = warm.inverse_temperature,
                              .noise = NoiseOf(rows[i]),
                              .cutoff = MinPCutoff(warm)};
    open_rows.push_back({warm, request});
  }
  const auto first_id = static_cast<int32_t>(vocab_.begin);
  // In this order: top_p is of what top_k keeps.
  for (auto weight : {CutoffQuery::Weight::kCount, CutoffQuery::Weight::kMass}) {
    LOCKSTEP_RETURN_IF_ERROR(Restrict(open_rows, weight, first_id, tensor_, pool_));
  }
  std::vector<ScanRequest> requests;
  for (const OpenRow& row : open_rows) requests.push_back(row.request);
  LOCKSTEP_ASSIGN_OR_RETURN(std::vector<Scanned> noisy, ScanAndExchange(requests));
  for (size_t k = 0; k < open.size(); ++k) drawn[open[k]] = noisy[k].summary.noisy;
  return absl::OkStatus();
}

absl::Status Sampler::FetchRawLogits(kernels::ConstMatrix logits, std::span<const LogitRow> rows,
                                     const Scans& scans, std::span<Candidate> drawn) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  std::vector<size_t> asking;
  std::vector<float> mine;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (scans.draw[i] == i || !WantsLogprobs(rows[i])) continue;
    const int64_t index = drawn[i].id - vocab_.begin;
    const bool is_mine = index >= 0 && index < logits.cols;
    asking.push_back(i);
    mine.push_back(is_mine ? logits.row(static_cast<int64_t>(i))[index] : kLowest);
  }
  LOCKSTEP_ASSIGN_OR_RETURN(std::vector<float> all, AllGather(tensor_, mine));
  for (size_t a = 0; a < asking.size(); ++a) {
    float& logit = drawn[asking[a]].logit;
    logit = kLowest;
    for (size_t k = a; k < all.size(); k += asking.size()) logit = std::max(logit, all[k]);
  }
  return absl::OkStatus();
}

}  // namespace lockstep::worker
