// The vectorised loops over a stretch of logits that sampling is made of. Pure functions of their
// arguments: the same bits on every thread, and at most a rounding apart between machines.
#ifndef LOCKSTEP_WORKER_SCAN_KERNELS_H_
#define LOCKSTEP_WORKER_SCAN_KERNELS_H_

#include <cstdint>
#include <span>

namespace lockstep::worker {

/// The largest of them; NaNs do not count; -inf when there is none.
float MaxOf(std::span<const float> logits);

/// The index of the first one above `threshold` at or after `begin`; logits.size() if there is
/// none.
int64_t FirstAbove(std::span<const float> logits, int64_t begin, float threshold);

/// sum of exp((logit - max) * scale) in double precision. A NaN makes it NaN.
double SumOfExp(std::span<const float> logits, double max, double scale);

/// out[i] = exp((logits[i] - max) * scale) in double precision. out: [logits.size()].
void ExpOf(std::span<const float> logits, double max, double scale, std::span<double> out);

/// The first i in [begin, count) with Mix64(start + i * kGoldenGamma) < threshold (hash.h); `count`
/// if there is none.
int64_t FirstMixBelow(uint64_t start, int64_t begin, int64_t count, uint64_t threshold);

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_SCAN_KERNELS_H_
