// The vectorised loops over a stretch of logits that sampling is made of. Pure functions of their
// arguments: the same bits on every thread, and at most a rounding apart between machines.
#ifndef LOCKSTEP_WORKER_SCAN_KERNELS_H_
#define LOCKSTEP_WORKER_SCAN_KERNELS_H_

#include <cstdint>
#include <span>

namespace lockstep::worker {

/// Logits that share one of BlockMaxima's results.
inline constexpr int64_t kMaximaBlock = 64;
constexpr int64_t MaximaBlocks(int64_t count) { return (count + kMaximaBlock - 1) / kMaximaBlock; }

/// out[b] = the largest of the logits [b * kMaximaBlock, (b + 1) * kMaximaBlock); NaNs do not
/// count; -inf when there is none. out: [MaximaBlocks(logits.size())].
void BlockMaxima(std::span<const float> logits, std::span<float> out);

/// The index of the first one above `threshold` at or after `begin`; logits.size() if there is
/// none.
int64_t FirstAbove(std::span<const float> logits, int64_t begin, float threshold);

/// sum of exp((logit - max) * scale), where all the exponents are below 700, to a relative 1e-11;
/// what is below exp(-700) counts as 0.
double SumOfExp(std::span<const float> logits, double max, double scale);

/// out[i] = exp((logits[i] - max) * scale), as in SumOfExp. out: [logits.size()].
void ExpOf(std::span<const float> logits, double max, double scale, std::span<double> out);

/// The first i in [begin, count) with Mix64(start + i * kGoldenGamma) (hash.h) below
/// MixThreshold(fractions[i / kMaximaBlock] * scale); `count` if there is none. `start` belongs to
/// i = 0, whatever `begin` is. fractions: [MaximaBlocks(count)].
int64_t FirstMixBelow(uint64_t start, int64_t begin, int64_t count,
                      std::span<const double> fractions, double scale);

/// At least `fraction` of all 64-bit numbers, and few more, lie below it.
inline uint64_t MixThreshold(double fraction) {
  const double padded = fraction * (1 + 1e-9) + 0x1p-52;
  return padded >= 1 ? ~uint64_t{0} : static_cast<uint64_t>(padded * 0x1p64);
}

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_SCAN_KERNELS_H_
