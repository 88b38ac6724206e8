// Where top_k and top_p end when lists of candidates are too short to tell: a search over the
// divided vocabulary that exchanges histograms instead of logits.
#ifndef LOCKSTEP_WORKER_CUTOFF_SEARCH_H_
#define LOCKSTEP_WORKER_CUTOFF_SEARCH_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/thread_pool.h"
#include "worker/collective/collective.h"
#include "worker/cutoff.h"

namespace lockstep::worker {

/// The shortest prefix, from the most probable id on, whose weights sum to `target` at least.
struct CutoffQuery {
  std::span<const float> logits;  // this rank's slice
  float max = 0;                  // of all ranks
  double inverse_temperature = 1;
  // An id's weight: one, or exp((logit - max) * inverse_temperature).
  enum class Weight { kCount, kMass } weight = Weight::kMass;
  double target = 0;
};

struct CutoffAnswer {
  Cutoff cutoff;    // keeps all when everything sums to less than the target
  double mass = 0;  // of what it keeps
};

/// Every rank of `tensor` calls it with the same queries and gets the same answers. Three rounds of
/// histograms over ever more bits of the logits (a radix selection), then one for the ties.
/// `first_id`: of this rank's slice. Errors: the collective's.
absl::StatusOr<std::vector<CutoffAnswer>> FindCutoffs(std::span<const CutoffQuery> queries,
                                                      int32_t first_id, Collective& tensor,
                                                      kernels::ThreadPool& pool);

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_CUTOFF_SEARCH_H_
