// The addition of every all-reduce. One function for all transports, so that they give the same
// bits.
#ifndef LOCKSTEP_WORKER_COLLECTIVE_SUM_H_
#define LOCKSTEP_WORKER_COLLECTIVE_SUM_H_

#include <cstdint>
#include <span>

namespace lockstep::worker {

/// out[i] = addends[0][i] + addends[1][i] + ..., added in that order in fp32, for i in [0, count).
/// At least one addend; `out` may be one of them, else must not overlap any. No alignment needed.
void SumInOrder(std::span<const float* const> addends, int64_t count, float* out);

/// The part of `count` elements that falls to rank `rank` of `size`: [begin, end).
struct Slice {
  int64_t begin;
  int64_t end;
  int64_t count() const { return end - begin; }
};
constexpr Slice SliceOf(int64_t count, int rank, int size) {
  return {count * rank / size, count * (rank + 1) / size};
}

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_COLLECTIVE_SUM_H_
