// Weights for tests, without a file: larger than the dummy ones, so that attention and logits are
// far from uniform.
#ifndef LOCKSTEP_WORKER_TESTING_RANDOM_WEIGHTS_H_
#define LOCKSTEP_WORKER_TESTING_RANDOM_WEIGHTS_H_

#include <cstdint>
#include <memory>
#include <string_view>

#include "model/weight_source.h"

namespace lockstep::worker {

/// The weight at (row, col) of tensor `name`, fp32: matrices uniform with standard deviation about
/// 1.5 / sqrt(cols), embeddings about 1, norms between 0.5 and 1.5. A function of its arguments.
float RandomWeight(uint64_t seed, std::string_view name, int64_t row, int64_t col,
                   const model::WeightShape& shape);

/// A source of RandomWeight in fp32.
std::unique_ptr<model::WeightSource> MakeRandomWeights(uint64_t seed);

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_TESTING_RANDOM_WEIGHTS_H_
