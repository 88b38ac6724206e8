// What each request of a benchmark asks for: random token ids of a wanted length, with or without a
// beginning that others share. A pure function of the seed and the request's number.
#ifndef LOCKSTEP_COORDINATOR_CTL_BENCH_WORKLOAD_H_
#define LOCKSTEP_COORDINATOR_CTL_BENCH_WORKLOAD_H_

#include <cstdint>
#include <optional>

#include "coordinator/ctl/bench/length_distribution.h"
#include "proto/lockstep/v1/inference.pb.h"

namespace lockstep::coordinator {

struct Workload {
  /// Tokens of a prompt that are its own, after the shared ones.
  LengthDistribution prompt_tokens{64};
  /// max_tokens.
  LengthDistribution output_tokens{64};
  /// Tokens at the beginning that request i shares with every request i + k * prefixes.
  int64_t shared_prefix_tokens = 0;
  /// Number of different beginnings, at least 1.
  int64_t prefixes = 1;
  /// Token ids are drawn below this, at least 1.
  int64_t vocab_size = 1;
  bool ignore_eos = false;
  /// Absent: the model's own.
  std::optional<double> temperature;
  uint64_t seed = 0;
};

/// Request number `index` (from 0) of the workload; its sampling seed follows from the workload's.
v1::GenerateRequest MakeRequest(const Workload& workload, int64_t index);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CTL_BENCH_WORKLOAD_H_
