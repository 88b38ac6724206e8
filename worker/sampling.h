// How one sequence's tokens are chosen: its checked parameters, and what its penalties count.
#ifndef LOCKSTEP_WORKER_SAMPLING_H_
#define LOCKSTEP_WORKER_SAMPLING_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "proto/lockstep/v1/cluster.pb.h"

namespace lockstep::worker {

/// Every value resolved and in the range that inference.proto names; the defaults change nothing.
struct Sampling {
  double temperature = 0;  // 0: greedy
  int32_t top_k = 0;       // 0: all
  double top_p = 1;
  uint64_t seed = 0;
  uint32_t choice = 0;
  double min_p = 0;
  double repetition_penalty = 1;
  double presence_penalty = 0;
  double frequency_penalty = 0;
  std::vector<std::pair<int32_t, float>> logit_bias;  // each id once
  int64_t min_tokens = 0;
  std::vector<int32_t> end_token_ids;  // none of them before min_tokens; each once

  bool penalizes_output() const { return presence_penalty != 0 || frequency_penalty != 0; }
  bool penalizes() const { return repetition_penalty != 1 || penalizes_output(); }
};

/// How often a token stands in a sequence.
struct TokenUse {
  bool in_prompt = false;
  int32_t in_output = 0;
};

/// The tokens of a sequence that occur at all.
using TokenCounts = absl::flat_hash_map<int32_t, TokenUse>;

/// Most alternatives that a sequence may ask for, per token.
inline constexpr uint32_t kMaxAlternatives = 20;

/// InvalidArgument, naming the parameter and its legal range, for what is missing (temperature,
/// top_k, top_p, seed; the others are neutral when absent) or out of range.
absl::StatusOr<Sampling> CheckSampling(const v1::NewSequence& sequence, int64_t vocab_size);

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_SAMPLING_H_
