// Chooses tokens over a vocabulary that is divided among the ranks, exchanging a summary and a few
// candidates per row instead of the logits. Exact: never an approximation of the distribution.
#ifndef LOCKSTEP_WORKER_SAMPLER_H_
#define LOCKSTEP_WORKER_SAMPLER_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/tensor.h"
#include "kernels/thread_pool.h"
#include "model/rank_shard.h"
#include "worker/collective/collective.h"
#include "worker/sampling.h"
#include "worker/shard_scan.h"

namespace lockstep::worker {

/// What to do with one row of logits.
struct LogitRow {
  // nullptr: only score `target`.
  const Sampling* sampling = nullptr;
  int64_t position = 0;  // where the sampled token will stand
  bool logprob = false;  // of the sampled token
  int32_t target = -1;
  int alternatives = 0;                 // most probable ids to report, at most kMaxAlternatives
  const TokenCounts* counts = nullptr;  // if sampling->penalizes()
  int64_t generated = 0;                // tokens of output so far
};

/// An id and the natural logarithm of its raw probability (before any processing).
struct ScoredToken {
  int32_t token = -1;
  float logprob = 0;
};

struct Choice {
  int32_t token = -1;
  float logprob = 0;                      // raw; 0 unless asked for
  std::vector<ScoredToken> alternatives;  // the most probable first, ties by id
};

/// Every rank of the last stage holds one, calls it with the same rows, and gets the same answer.
///
/// The logits are processed (logit_processing.h); then a token is drawn as the largest logit /
/// temperature + noise (noise.h) among the kept ids: those of the top_k highest logits; of these
/// the smallest set, from the most probable on, whose probabilities sum to top_p; of these the ones
/// at least min_p times as probable as the most probable one. A temperature below
/// kLowestTemperature takes the highest logit. Ties go to the lowest id. One exchange does for
/// top_k up to kMaxCandidates and for top_p and min_p that kCandidates cover; others search for the
/// cutoff (cutoff_search.h).
class Sampler {
 public:
  static constexpr int64_t kMaxCandidates = 1024;
  static constexpr int64_t kCandidates = 256;
  static constexpr double kLowestTemperature = 1e-5;

  /// `vocab` is this rank's slice of `vocab_size` ids.
  Sampler(model::Range vocab, int64_t vocab_size, Collective& tensor, kernels::ThreadPool& pool)
      : vocab_(vocab), vocab_size_(vocab_size), tensor_(tensor), pool_(pool) {}

  /// logits: [rows.size(), vocab.size()] fp32. Errors: the collective's; Internal when a row's
  /// logits are not finite.
  absl::StatusOr<std::vector<Choice>> Choose(kernels::ConstMatrix logits,
                                             std::span<const LogitRow> rows);

 private:
  /// What the ranks know together of a scanned row.
  struct Scanned {
    ShardSummary summary;
    std::vector<Candidate> candidates;  // in order; the first of the whole vocabulary
  };
  /// The scans of a step: one per row, of its raw logits; then one per row that is processed.
  struct Scans {
    std::vector<ScanRequest> requests;
    std::vector<size_t> draw;  // by row: the scan that it draws from; its own if nothing changes
  };

  Scans PlanScans(kernels::ConstMatrix logits, std::span<const LogitRow> rows);
  absl::StatusOr<std::vector<Scanned>> ScanAndExchange(std::span<const ScanRequest> requests);
  absl::StatusOr<std::vector<Candidate>> Draw(std::span<const LogitRow> rows, const Scans& scans,
                                              std::span<const Scanned> scanned);
  absl::Status DrawByCutoff(std::span<const LogitRow> rows, const Scans& scans,
                            std::span<const Scanned> scanned, std::span<const size_t> open,
                            std::span<Candidate> drawn);
  /// Replaces the processed logit of the rows that want a log-probability by the raw one.
  absl::Status FetchRawLogits(kernels::ConstMatrix logits, std::span<const LogitRow> rows,
                              const Scans& scans, std::span<Candidate> drawn);

  const model::Range vocab_;
  const int64_t vocab_size_;
  Collective& tensor_;
  kernels::ThreadPool& pool_;
  std::vector<float> processed_;  // the rows that processing changes, [rows, vocab.size()]
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_SAMPLER_H_
