// Independent streams of random numbers, so that what one request is does not depend on how many
// were made before it.
#ifndef LOCKSTEP_COORDINATOR_CTL_BENCH_SEEDED_GENERATOR_H_
#define LOCKSTEP_COORDINATOR_CTL_BENCH_SEEDED_GENERATOR_H_

#include <cstdint>
#include <random>

namespace lockstep::coordinator {

/// What the numbers are for; each use has a stream of its own.
enum class RandomUse : uint32_t { kRequest = 1, kPrefix = 2, kArrivals = 3 };

/// The generator of stream (`use`, `index`) under `seed`: equal arguments, equal numbers.
inline std::mt19937_64 SeededGenerator(uint64_t seed, RandomUse use, uint64_t index) {
  std::seed_seq sequence{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32),
                         static_cast<uint32_t>(use), static_cast<uint32_t>(index),
                         static_cast<uint32_t>(index >> 32)};
  return std::mt19937_64(sequence);
}

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CTL_BENCH_SEEDED_GENERATOR_H_
