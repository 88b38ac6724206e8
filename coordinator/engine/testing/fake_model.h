// A "language model" that costs nothing and depends on every token so far: the next token is a hash
// of all of them and of the seed. If the engine mixes up, drops or repeats anything, what follows
// differs.
#ifndef LOCKSTEP_COORDINATOR_ENGINE_TESTING_FAKE_MODEL_H_
#define LOCKSTEP_COORDINATOR_ENGINE_TESTING_FAKE_MODEL_H_

#include <cstdint>
#include <span>
#include <vector>

namespace lockstep::coordinator {

struct FakeModel {
  int32_t vocab_size = 64;

  /// The seed by which a choice of a request draws; choice 0's is the request's own.
  static uint64_t ChoiceSeed(uint64_t seed, int choice);

  /// In [0, vocab_size).
  int32_t NextToken(std::span<const int32_t> tokens, uint64_t seed) const;

  /// Of `token` after `tokens`; negative, and as good as unique.
  float LogProb(std::span<const int32_t> tokens, int32_t token) const;

  /// Prompt tokens [1, size) given those before them.
  std::vector<float> PromptLogProbs(std::span<const int32_t> prompt) const;

  /// What a request is to get: up to `max_tokens` tokens, ending early with one of `stop_tokens`.
  std::vector<int32_t> Generate(std::vector<int32_t> prompt, uint64_t seed, int64_t max_tokens,
                                std::span<const int32_t> stop_tokens) const;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_ENGINE_TESTING_FAKE_MODEL_H_
