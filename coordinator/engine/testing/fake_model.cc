// Hashing by the finalizer of SplitMix64 (Steele, Lea, Flood 2014).
#include "coordinator/engine/testing/fake_model.h"

#include <algorithm>

namespace lockstep::coordinator {
namespace {

uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

uint64_t HashTokens(std::span<const int32_t> tokens, uint64_t hash) {
  for (int32_t token : tokens) hash = Mix(hash ^ static_cast<uint64_t>(token));
  return hash;
}

}  // namespace

uint64_t FakeModel::ChoiceSeed(uint64_t seed, int choice) {
  return seed + static_cast<uint64_t>(choice) * 0x9e3779b97f4a7c15u;
}

int32_t FakeModel::NextToken(std::span<const int32_t> tokens, uint64_t seed) const {
  return static_cast<int32_t>(HashTokens(tokens, Mix(seed)) % static_cast<uint64_t>(vocab_size));
}

float FakeModel::LogProb(std::span<const int32_t> tokens, int32_t token) const {
  const uint64_t hash = HashTokens(tokens, static_cast<uint64_t>(token));
  return -static_cast<float>(hash >> 40) / static_cast<float>(1 << 24);
}

std::vector<float> FakeModel::PromptLogProbs(std::span<const int32_t> prompt) const {
  std::vector<float> logprobs;
  for (size_t i = 1; i < prompt.size(); ++i) {
    logprobs.push_back(LogProb(prompt.first(i), prompt[i]));
  }
  return logprobs;
}

std::vector<int32_t> FakeModel::Generate(std::vector<int32_t> prompt, uint64_t seed,
                                         int64_t max_tokens,
                                         std::span<const int32_t> stop_tokens) const {
  const size_t prompt_size = prompt.size();
  for (int64_t i = 0; i < max_tokens; ++i) {
    prompt.push_back(NextToken(prompt, seed));
    if (std::find(stop_tokens.begin(), stop_tokens.end(), prompt.back()) != stop_tokens.end()) {
      break;
    }
  }
  return {prompt.begin() + static_cast<int64_t>(prompt_size), prompt.end()};
}

}  // namespace lockstep::coordinator
