// A small Llama of known random weights, as a directory that workers can load.
#ifndef LOCKSTEP_TESTS_SAMPLING_RANDOM_MODEL_H_
#define LOCKSTEP_TESTS_SAMPLING_RANDOM_MODEL_H_

#include <cstdint>
#include <filesystem>
#include <string>

#include "absl/status/status.h"

namespace lockstep::tests {

/// Legal at TP 1, 2 and 4; a vocabulary of 101, which none of them divides.
std::string RandomModelConfig();

/// Writes model.safetensors with the weights of worker::RandomWeight(seed) in fp32 into the
/// directory, which it makes.
absl::Status WriteRandomModel(uint64_t seed, const std::filesystem::path& directory);

}  // namespace lockstep::tests

#endif  // LOCKSTEP_TESTS_SAMPLING_RANDOM_MODEL_H_
