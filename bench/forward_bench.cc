// The worker's bare forward loop: decodes a batch without coordinator, RPC or tokenizer, one thread
// per processor, and prints the time of a step as a JSON line. What a served batch is held against.
#include <algorithm>
#include <chrono>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/dtype.h"
#include "base/status_macros.h"
#include "model/config.h"
#include "model/decoder_spec.h"
#include "model/weight_source.h"
#include "nlohmann/json.hpp"
#include "worker/local_cluster.h"
#include "worker/testing/batches.h"

namespace lockstep::bench {
namespace {

struct Options {
  std::string model;  // a directory with a config.json; weights are random
  int tp = 1;
  std::vector<int> cpus;  // shared out evenly over the ranks
  std::vector<int> batches = {1};
  int prompt_tokens = 64;
  int steps = 31;
};

constexpr uint64_t kEpoch = 1;
constexpr int64_t kContext = 1024;

// Two batches are under way, as behind the engine.
constexpr int kUnderWay = 2;

absl::StatusOr<std::unique_ptr<worker::LocalCluster>> MakeCluster(const Options& options) {
  std::ifstream file(absl::StrCat(options.model, "/config.json"));
  if (!file) return absl::NotFoundError(absl::StrCat("no config.json in ", options.model));
  const std::string config((std::istreambuf_iterator<char>(file)), {});
  worker::LocalClusterOptions cluster{.tp_size = options.tp, .dtype = DType::kBF16};
  LOCKSTEP_ASSIGN_OR_RETURN(cluster.spec, model::ParseDecoderSpec(config));
  const int64_t most = *std::max_element(options.batches.begin(), options.batches.end());
  cluster.limits = {
      .epoch = kEpoch,
      .kv_blocks = most * kContext / 16 * static_cast<int64_t>(options.batches.size()),
      .max_batch_tokens = 512,
      .max_sequences = most,
      .context_tokens = kContext};
  const size_t share = options.cpus.size() / options.tp;
  for (int rank = 0; rank < options.tp; ++rank) {
    auto begin = options.cpus.begin() + static_cast<int64_t>(rank * share);
    cluster.cpus.emplace_back(begin, begin + static_cast<int64_t>(share));
  }
  return worker::LocalCluster::Create(cluster, *model::MakeDummyWeights(/*seed=*/1));
}

// Prefills sequences [first, first + batch), one a step.
absl::Status Prefill(const Options& options, int first, int batch, worker::BatchComposer& composer,
                     worker::LocalCluster& cluster) {
  for (int id = first; id < first + batch; ++id) {
    v1::NewSequence sequence = composer.Greedy(id, options.prompt_tokens);
    sequence.set_logprobs(false);
    sequence.set_prompt_logprobs(false);
    composer.New(sequence);
    std::vector<int32_t> prompt;
    for (int i = 0; i < options.prompt_tokens; ++i) prompt.push_back((id * 7919 + i * 31) % 1000);
    composer.Chunk(id, prompt, /*sample=*/true);
    LOCKSTEP_RETURN_IF_ERROR(cluster.Run(composer.Take()).status());
  }
  return absl::OkStatus();
}

// Seconds of each decode step, from answer to answer.
absl::StatusOr<std::vector<double>> Decode(const Options& options, int first, int batch,
                                           worker::BatchComposer& composer,
                                           worker::LocalCluster& cluster) {
  using Clock = std::chrono::steady_clock;
  auto submit = [&] {
    for (int id = first; id < first + batch; ++id) composer.Decode(id);
    cluster.Submit(composer.Take());
  };
  std::vector<double> seconds;
  for (int i = 0; i < kUnderWay; ++i) submit();
  Clock::time_point previous = Clock::now();
  for (int step = 0; step < options.steps; ++step) {
    LOCKSTEP_RETURN_IF_ERROR(cluster.Next().status());
    if (step + kUnderWay < options.steps) submit();
    const Clock::time_point now = Clock::now();
    seconds.push_back(std::chrono::duration<double>(now - previous).count());
    previous = now;
  }
  return seconds;
}

absl::Status Run(const Options& options) {
  LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<worker::LocalCluster> cluster, MakeCluster(options));
  worker::BatchComposer composer(kEpoch);
  int next_id = 1;
  for (int batch : options.batches) {
    LOCKSTEP_RETURN_IF_ERROR(Prefill(options, next_id, batch, composer, *cluster));
    LOCKSTEP_ASSIGN_OR_RETURN(std::vector<double> seconds,
                              Decode(options, next_id, batch, composer, *cluster));
    for (int id = next_id; id < next_id + batch; ++id) composer.Free(id);
    next_id += batch;
    std::nth_element(seconds.begin(), seconds.begin() + seconds.size() / 2, seconds.end());
    const double median = seconds[seconds.size() / 2];
    std::cout << nlohmann::json({{"tp", options.tp},
                                 {"batch", batch},
                                 {"step_seconds", median},
                                 {"tokens_per_second", batch / median}})
                     .dump()
              << std::endl;
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace lockstep::bench

int main(int argc, char** argv) {
  lockstep::bench::Options options;
  CLI::App app("The worker's bare forward loop");
  app.add_option("--model", options.model)->required();
  app.add_option("--tp", options.tp)->check(CLI::PositiveNumber);
  app.add_option("--cpus", options.cpus)->delimiter(',')->required();
  app.add_option("--batches", options.batches)->delimiter(',');
  app.add_option("--prompt-tokens", options.prompt_tokens)->check(CLI::Range(1, 256));
  app.add_option("--steps", options.steps)->check(CLI::Range(3, 512));
  CLI11_PARSE(app, argc, argv);
  absl::Status status = lockstep::bench::Run(options);
  if (status.ok()) return 0;
  std::cerr << status << std::endl;
  return 1;
}
