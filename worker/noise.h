// The sampler's noise: a pure function of (request seed, choice, absolute position, vocabulary id),
// so that a request draws the same tokens alone, in company, after a resume and under every plan.
#ifndef LOCKSTEP_WORKER_NOISE_H_
#define LOCKSTEP_WORKER_NOISE_H_

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "worker/hash.h"

namespace lockstep::worker {

/// The noise of one row. Adding independent Gumbel noise to log-weights and taking the largest
/// draws an index with probability proportional to its weight (Gumbel 1954; Maddison et al. 2014).
///
/// Definition, fixed for good: key = Combine(Combine(Mix64(seed), choice), position); the bits of
/// id are output id of the SplitMix64 stream that starts at key; v = (top 52 bits + 1/2) / 2^52;
/// Gumbel(id) = -log(-log(1 - v)).
class Noise {
 public:
  Noise(uint64_t seed, uint32_t choice, int64_t position)
      : key_(Combine(Combine(Mix64(seed), choice), static_cast<uint64_t>(position))) {}

  double Gumbel(int32_t id) const {
    double v = (static_cast<double>(Bits(id) >> 12) + 0.5) * 0x1p-52;
    return -std::log(-std::log1p(-v));
  }

  /// At least Gumbel(id), at most ln 2 above -log v, for a fraction of the cost: -log(1 - v) >= v,
  /// and v is at least 2 to the minus (leading zeros + 1).
  double UpperBound(int32_t id) const {
    int zeros = std::min(std::countl_zero(Bits(id)), 52);
    return (zeros + 1) * std::numbers::ln2;
  }

  /// The bits of id + i for i = 0, 1, ... are Mix64(StreamAt(id) + i * kGoldenGamma). Ids whose
  /// noise exceeds g have bits below 2^64 (1 - exp(-exp(-g))), which is at most 2^64 exp(-g).
  uint64_t StreamAt(int32_t id) const {
    return key_ + (static_cast<uint64_t>(id) + 1) * kGoldenGamma;
  }

 private:
  uint64_t Bits(int32_t id) const { return Mix64(StreamAt(id)); }

  uint64_t key_;
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_NOISE_H_
