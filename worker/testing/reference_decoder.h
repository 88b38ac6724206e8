// The decoder as one would write it on a blackboard: double precision, no cache, no batching, no
// parallelism.
#ifndef LOCKSTEP_WORKER_TESTING_REFERENCE_DECODER_H_
#define LOCKSTEP_WORKER_TESTING_REFERENCE_DECODER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "model/decoder_spec.h"

namespace lockstep::worker {

/// Logits after every token, [tokens.size()][vocab_size], with the weights of RandomWeight(seed).
std::vector<std::vector<double>> ReferenceLogits(const model::DecoderSpec& spec, uint64_t seed,
                                                 std::span<const int32_t> tokens);

/// Natural logarithm of softmax(logits)[token].
double ReferenceLogprob(const std::vector<double>& logits, int32_t token);

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_TESTING_REFERENCE_DECODER_H_
