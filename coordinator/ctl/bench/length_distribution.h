// How many tokens a prompt or an output has: a number or a distribution, as a flag names it.
#ifndef LOCKSTEP_COORDINATOR_CTL_BENCH_LENGTH_DISTRIBUTION_H_
#define LOCKSTEP_COORDINATOR_CTL_BENCH_LENGTH_DISTRIBUTION_H_

#include <cstdint>
#include <random>
#include <string_view>
#include <variant>

#include "absl/status/statusor.h"

namespace lockstep::coordinator {

/// Lengths in tokens, all at least 1. A value type; sampling is const and thread-safe.
class LengthDistribution {
 public:
  /// "64": always 64. "uniform:32-512": each from 32 to 512 equally often. "lognormal:200,0.8" or
  /// "lognormal:200,0.8,1024": the mean in tokens, the standard deviation of the natural logarithm,
  /// and the length that longer draws are cut to (default: 2^30). InvalidArgument says what was
  /// found and which forms are legal.
  static absl::StatusOr<LengthDistribution> Parse(std::string_view text);

  /// Always `tokens` (at least 1).
  explicit LengthDistribution(int64_t tokens) : kind_(Uniform{tokens, tokens}) {}

  int64_t Sample(std::mt19937_64& generator) const;

 private:
  struct Uniform {
    int64_t least;
    int64_t most;
  };
  struct Lognormal {
    double log_mean;
    double log_deviation;
    int64_t most;
  };
  using Kind = std::variant<Uniform, Lognormal>;

  explicit LengthDistribution(Kind kind) : kind_(kind) {}
  static absl::StatusOr<LengthDistribution> ParseUniform(std::string_view range);
  static absl::StatusOr<LengthDistribution> ParseLognormal(std::string_view parameters);

  Kind kind_;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CTL_BENCH_LENGTH_DISTRIBUTION_H_
