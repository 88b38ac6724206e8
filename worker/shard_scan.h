// One pass over a rank's slice of the vocabulary for every row of logits: what the ranks then
// exchange instead of the logits.
#ifndef LOCKSTEP_WORKER_SHARD_SCAN_H_
#define LOCKSTEP_WORKER_SHARD_SCAN_H_

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "kernels/thread_pool.h"
#include "worker/cutoff.h"
#include "worker/noise.h"

namespace lockstep::worker {

/// A row of the slice and what to find in it.
struct ScanRequest {
  std::span<const float> logits;   // of the ids first_id, first_id + 1, ...
  double inverse_temperature = 1;  // of warm_sum and the noise
  std::optional<Noise> noise;      // set: look for the noisy winner
  Cutoff cutoff;                   // of the ids that take part in that
  bool raw_sum = false;
  bool warm_sum = false;
  int32_t target = -1;     // set: report this id's logit
  int64_t candidates = 0;  // how many of the most probable to list
};

/// What a shard says of a row. Trivially copyable: it travels between ranks as it is.
struct ShardSummary {
  Candidate best;   // the highest logit
  Candidate noisy;  // the highest logit / temperature + Gumbel noise
  double noisy_score = -std::numeric_limits<double>::infinity();
  double raw_sum = 0;   // sum of exp(logit - best.logit)
  double warm_sum = 0;  // sum of exp((logit - best.logit) / temperature)
  Candidate target;     // id -1 when the target is not in this shard
};

/// The summary of two disjoint parts of the vocabulary; all ids of `a` lie below those of `b`.
ShardSummary Merge(const ShardSummary& a, const ShardSummary& b, double inverse_temperature);

struct ScanResult {
  std::vector<ShardSummary> summaries;  // one per request
  // Of each request in turn, as many as it asked for: the first by Precedes, in order, filled up
  // with id -1.
  std::vector<Candidate> candidates;
};

/// All requests' rows are of the same length. Bits do not depend on the number of threads.
ScanResult Scan(std::span<const ScanRequest> requests, int32_t first_id, kernels::ThreadPool& pool);

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_SHARD_SCAN_H_
