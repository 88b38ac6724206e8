// One pass over a rank's slice of the vocabulary for every row of logits: what the ranks then
// exchange instead of the logits.
#ifndef LOCKSTEP_WORKER_SHARD_SCAN_H_
#define LOCKSTEP_WORKER_SHARD_SCAN_H_

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "kernels/tensor.h"
#include "kernels/thread_pool.h"
#include "worker/noise.h"

namespace lockstep::worker {

/// A vocabulary id and its raw logit. id -1 fills up lists of shards that have fewer.
struct Candidate {
  float logit = -std::numeric_limits<float>::infinity();
  int32_t id = -1;
};

/// More probable first; ties go to the lower id.
inline bool Precedes(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

/// What to find in a row.
struct ScanRequest {
  double inverse_temperature = 1;  // of warm_sum and the noise
  std::optional<Noise> noise;      // set: look for the noisy winner
  bool raw_sum = false;
  bool warm_sum = false;
  int32_t target = -1;  // set: report this id's logit
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

/// logits: [rows, slice], of the ids first_id, first_id + 1, .... Returns one summary per row. Bits
/// do not depend on the number of threads.
std::vector<ShardSummary> Scan(kernels::ConstMatrix logits, int32_t first_id,
                               std::span<const ScanRequest> requests, kernels::ThreadPool& pool);

/// The `count` first candidates by Precedes, in order; filled up with id -1.
std::vector<Candidate> TopCandidates(std::span<const float> logits, int32_t first_id,
                                     int64_t count);

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_SHARD_SCAN_H_
