// Chooses tokens over a vocabulary that is divided among the ranks, exchanging a summary and a few
// candidates per row instead of the logits. Exact: never an approximation of the distribution.
#ifndef LOCKSTEP_WORKER_SAMPLER_H_
#define LOCKSTEP_WORKER_SAMPLER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/tensor.h"
#include "kernels/thread_pool.h"
#include "model/rank_shard.h"
#include "worker/collective/collective.h"
#include "worker/sequence_table.h"
#include "worker/shard_scan.h"

namespace lockstep::worker {

/// What to do with one row of logits.
struct LogitRow {
  // nullptr: only score `target`.
  const Sampling* sampling = nullptr;
  int64_t position = 0;  // where the sampled token will stand
  bool logprob = false;  // of the sampled token
  int32_t target = -1;
};

struct Choice {
  int32_t token = -1;
  // Natural logarithm of the token's raw probability (before temperature); 0 unless asked for.
  float logprob = 0;
};

/// Every rank of the last stage holds one, calls it with the same rows, and gets the same answer.
///
/// A token is drawn as the largest logit / temperature + noise (noise.h) among the kept ids: all;
/// the top_k highest logits; of these the smallest set, from the most probable on, whose
/// probabilities sum to top_p. Temperature 0 takes the highest logit. Ties go to the lowest id.
/// top_k up to kMaxCandidates and top_p that kTopPCandidates cover take one exchange; others
/// gather the row's logits.
class Sampler {
 public:
  static constexpr int64_t kMaxCandidates = 256;
  static constexpr int64_t kTopPCandidates = 64;

  /// `vocab` is this rank's slice, `slice` the size of the largest one.
  Sampler(model::Range vocab, int64_t slice, Collective& tensor, kernels::ThreadPool& pool)
      : vocab_(vocab), slice_(slice), tensor_(tensor), pool_(pool) {}

  /// logits: [rows.size(), vocab.size()] fp32. Errors: the collective's; Internal when a row's
  /// logits are not finite.
  absl::StatusOr<std::vector<Choice>> Choose(kernels::ConstMatrix logits,
                                             std::span<const LogitRow> rows);

 private:
  struct Exchanged {
    std::vector<ShardSummary> summaries;             // per row, merged
    std::vector<std::vector<Candidate>> candidates;  // per row, merged and sorted
  };

  absl::StatusOr<Exchanged> Exchange(kernels::ConstMatrix logits, std::span<const LogitRow> rows);
  absl::StatusOr<Candidate> Draw(const LogitRow& row, std::span<const float> logits,
                                 const ShardSummary& summary,
                                 std::span<const Candidate> candidates);
  absl::StatusOr<std::vector<Candidate>> GatherAll(std::span<const float> logits);

  const model::Range vocab_;
  const int64_t slice_;
  Collective& tensor_;
  kernels::ThreadPool& pool_;
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_SAMPLER_H_
