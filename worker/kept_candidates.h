// Which of the most probable ids a row keeps, and which of them it draws: decisions on lists of
// candidates that every rank takes alike.
#ifndef LOCKSTEP_WORKER_KEPT_CANDIDATES_H_
#define LOCKSTEP_WORKER_KEPT_CANDIDATES_H_

#include <optional>
#include <span>

#include "worker/cutoff.h"
#include "worker/noise.h"
#include "worker/sampling.h"

namespace lockstep::worker {

/// The processed logits of a row as sampling sees them.
struct WarmRow {
  const Sampling* sampling = nullptr;
  float max = 0;                   // the highest logit
  double inverse_temperature = 1;  // positive
  double total = 0;                // sum of exp((logit - max) * inverse_temperature) over all ids
};

/// The ids that top_k, top_p and min_p keep. `sorted`: the most probable ids in order, at least
/// top_k of them or all (`complete`). nullopt when they are too few to tell.
std::optional<std::span<const Candidate>> Kept(const WarmRow& row,
                                               std::span<const Candidate> sorted, bool complete);

/// The ids that min_p alone keeps.
Cutoff MinPCutoff(const WarmRow& row);

/// The id with the largest logit * inverse_temperature + noise; ties go to the lowest.
Candidate NoisyWinner(std::span<const Candidate> kept, double inverse_temperature,
                      const Noise& noise);

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_KEPT_CANDIDATES_H_
