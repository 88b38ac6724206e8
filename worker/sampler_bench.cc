// What choosing the tokens of a step costs: 32 rows of Llama 3's vocabulary on one rank with two
// threads, for each way of sampling.
#include <benchmark/benchmark.h>
#include <glog/logging.h>

#include <memory>
#include <random>
#include <vector>

#include "worker/sampler.h"

namespace lockstep::worker {
namespace {

constexpr int64_t kVocab = 128256;
constexpr int64_t kRows = 32;
constexpr int kThreads = 2;

// Normal with the spread of a trained model's logits, or nearly flat like an untrained one's.
std::vector<float> Logits(float spread) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(kRows * kVocab);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

// Tokens of 2000 positions, as after a long prompt.
TokenCounts ManyTokens() {
  TokenCounts counts;
  for (int32_t i = 0; i < 2000; ++i) ++counts[i * 61].in_output;
  return counts;
}

void Choose(benchmark::State& state, float spread, const Sampling& sampling, bool logprob,
            int alternatives) {
  const std::vector<float> logits = Logits(spread);
  const TokenCounts counts = ManyTokens();
  const std::unique_ptr<Collective> solo = MakeSoloCollective();
  kernels::ThreadPool pool(kThreads);
  Sampler sampler({0, kVocab}, kVocab, *solo, pool);
  int64_t position = 0;
  for (auto _ : state) {
    std::vector<LogitRow> rows(
        kRows, {&sampling, ++position, logprob, -1, alternatives, &counts, /*generated=*/2000});
    auto choices = sampler.Choose({logits.data(), kRows, kVocab}, rows);
    CHECK(choices.ok()) << choices.status();
    benchmark::DoNotOptimize(choices->data());
  }
}

void RegisterAll() {
  const auto add = [](const char* name, float spread, const Sampling& sampling,
                      bool logprob = false, int alternatives = 0) {
    benchmark::RegisterBenchmark(name, Choose, spread, sampling, logprob, alternatives)
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime();
  };
  add("greedy", 3, {});
  add("greedy, logprobs", 3, {}, true);
  add("greedy, 20 alternatives", 3, {}, true, 20);
  add("temperature", 3, {.temperature = 0.8, .seed = 1});
  add("temperature, nearly flat", 0.05f, {.temperature = 0.8, .seed = 1});
  add("top_k 50", 3, {.temperature = 0.8, .top_k = 50, .seed = 1});
  add("top_p 0.9", 3, {.temperature = 0.5, .top_p = 0.9, .seed = 1});
  add("top_p 0.9 of thousands", 1, {.temperature = 1, .top_p = 0.9, .seed = 1});
  add("min_p 0.05", 3, {.temperature = 0.8, .seed = 1, .min_p = 0.05});
  add("penalties", 3,
      {.temperature = 0.8, .seed = 1, .repetition_penalty = 1.1, .frequency_penalty = 0.1});
}

}  // namespace
}  // namespace lockstep::worker

int main(int argc, char** argv) {
  lockstep::worker::RegisterAll();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
