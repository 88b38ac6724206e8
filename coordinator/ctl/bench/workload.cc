// See workload.h.
#include "coordinator/ctl/bench/workload.h"

#include <random>

#include "coordinator/ctl/bench/seeded_generator.h"

namespace lockstep::coordinator {
namespace {

void AppendRandomIds(int64_t count, int64_t vocab_size, std::mt19937_64& generator,
                     v1::TokenIds* tokens) {
  std::uniform_int_distribution<int32_t> id(0, static_cast<int32_t>(vocab_size - 1));
  for (int64_t i = 0; i < count; ++i) tokens->add_ids(id(generator));
}

}  // namespace

v1::GenerateRequest MakeRequest(const Workload& workload, int64_t index) {
  std::mt19937_64 own = SeededGenerator(workload.seed, RandomUse::kRequest, index);
  std::mt19937_64 shared =
      SeededGenerator(workload.seed, RandomUse::kPrefix, index % workload.prefixes);
  const int64_t prompt_tokens = workload.prompt_tokens.Sample(own);
  v1::GenerateRequest request;
  v1::TokenIds* tokens = request.mutable_tokens();
  tokens->mutable_ids()->Reserve(static_cast<int>(workload.shared_prefix_tokens + prompt_tokens));
  AppendRandomIds(workload.shared_prefix_tokens, workload.vocab_size, shared, tokens);
  AppendRandomIds(prompt_tokens, workload.vocab_size, own, tokens);
  request.set_max_tokens(static_cast<int32_t>(workload.output_tokens.Sample(own)));
  request.set_ignore_eos(workload.ignore_eos);
  if (workload.temperature) request.mutable_sampling()->set_temperature(*workload.temperature);
  request.mutable_sampling()->set_seed(own());
  return request;
}

}  // namespace lockstep::coordinator
