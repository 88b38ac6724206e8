// Sampling as one would write it on a blackboard: the whole distribution in double precision, and
// the test that draws come from it.
#ifndef LOCKSTEP_WORKER_TESTING_REFERENCE_SAMPLER_H_
#define LOCKSTEP_WORKER_TESTING_REFERENCE_SAMPLER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "worker/sampling.h"

namespace lockstep::worker {

/// The logits after bias, penalties and mask. `prompt` and `output`: the tokens so far.
std::vector<double> ReferenceProcessed(std::vector<double> logits, const Sampling& sampling,
                                       std::span<const int32_t> prompt,
                                       std::span<const int32_t> output);

/// The probability of each id to be drawn from processed logits; 0 for what is not kept.
/// Temperature must be positive.
std::vector<double> ReferenceProbabilities(const std::vector<double>& processed,
                                           const Sampling& sampling);

/// Pearson's chi-square test that `draws` have these probabilities; ids expected fewer than ten
/// times form one cell. The p-value by Wilson & Hilferty's normal approximation (1931); 0 when an
/// id of probability 0 was drawn, 1 when there is only one cell.
double ChiSquarePValue(std::span<const int32_t> draws, const std::vector<double>& probabilities);

/// What the penalties count of `prompt` and `output`.
TokenCounts CountsOf(std::span<const int32_t> prompt, std::span<const int32_t> output);

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_TESTING_REFERENCE_SAMPLER_H_
