// The one integer mixer of the worker: sampling noise and state digests are built from it.
#ifndef LOCKSTEP_WORKER_HASH_H_
#define LOCKSTEP_WORKER_HASH_H_

#include <cstdint>

namespace lockstep::worker {

/// SplitMix64's finaliser (Steele, Lea & Flood, "Fast splittable pseudorandom number generators",
/// 2014, variant 13 of Stafford): a bijection of 64 bits in which every input bit flips every
/// output bit with probability close to one half.
constexpr uint64_t Mix64(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// SplitMix64's increment: 2^64 divided by the golden ratio, odd.
inline constexpr uint64_t kGoldenGamma = 0x9e3779b97f4a7c15u;

/// A hash of the pair; order matters.
constexpr uint64_t Combine(uint64_t hash, uint64_t value) {
  return Mix64((hash ^ Mix64(value + kGoldenGamma)) + kGoldenGamma);
}

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_HASH_H_
