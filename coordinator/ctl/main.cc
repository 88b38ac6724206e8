// coordinatorctl: the command line of Lockstep. Declares the subcommands' flags and calls them.
#include <iostream>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "coordinator/ctl/admin_client.h"
#include "coordinator/ctl/bench_command.h"
#include "coordinator/ctl/generate_command.h"
#include "coordinator/ctl/plan_command.h"
#include "coordinator/ctl/status_command.h"
#include "coordinator/ctl/up_command.h"

namespace lockstep::coordinator {
namespace {

/// Flags of `up` that only coordinatord reads: name, what it means. Their values are checked there.
const std::vector<std::pair<std::string, std::string>>& CoordinatorFlags() {
  static const auto& flags = *new std::vector<std::pair<std::string, std::string>>{
      {"dtype", "arithmetic and key-value cache: bf16 or fp32 (default bf16)"},
      {"load-format", "safetensors, or dummy for seeded random weights without any file"},
      {"served-model-name", "names that requests may use for the model, with commas between them"},
      {"max-queue", "most requests that wait at once; more are refused (default 1024)"},
      {"seed", "of the seeds that requests without one get (default: drawn anew at every start)"},
      {"dummy-seed", "seed of --load-format=dummy"},
      {"max-model-len",
       "longest prompt and continuation together, in tokens (default the model's)"},
      {"max-num-seqs", "most requests that run at once (default 32)"},
      {"max-num-batched-tokens", "most tokens in one step (default 2048)"},
      {"max-batches-in-flight", "most steps computed or queued at once (default stages + 1)"},
      {"memory-fraction,--gpu-memory-utilization",
       "share of the memory that weights and key-value cache may take (default 0.9)"},
  };
  return flags;
}

void AddCoordinatorOption(CLI::App* command, std::string* address) {
  command->add_option("--coordinator", *address, "HOST:PORT of the coordinator")
      ->envname("LOCKSTEP_COORDINATOR")
      ->capture_default_str();
}

constexpr char kModelHelp[] =
    "directory of a Hugging Face model, or org/name in the local Hugging Face cache";

void AddParallelOptions(CLI::App* command, int* tp, int* pp) {
  // The ranges are those of sense; what the model allows is checked against its config.json.
  command->add_option("--tp,--tensor-parallel-size", *tp, "ranks that split every weight matrix")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command->add_option("--pp,--pipeline-parallel-size", *pp, "stages that split the layers")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
}

void AddPlan(CLI::App& app, int* exit_status) {
  CLI::App* plan = app.add_subcommand("plan", "Show who would hold what, from config.json alone");
  auto options = std::make_shared<PlanOptions>();
  plan->add_option("--model", options->model, kModelHelp)->required();
  AddParallelOptions(plan, &options->tp, &options->pp);
  plan->add_option("--devices-per-node", options->devices_per_node, "0: one node is large enough")
      ->capture_default_str();
  plan->add_flag("--allow-cross-node-tp", options->allow_cross_node_tp,
                 "let a tensor-parallel group span nodes");
  plan->add_option("--device-memory", options->device_memory, "of each device, such as 80GiB");
  plan->add_option("--memory-fraction", options->memory_fraction, "share of it to use")
      ->capture_default_str();
  plan->add_option("--context,--max-model-len", options->context,
                   "tokens of a sequence (default: the model's longest)");
  plan->add_option("--concurrency,--max-num-seqs", options->concurrency,
                   "sequences of that length at once")
      ->capture_default_str();
  plan->add_option("--max-num-batched-tokens", options->max_num_batched_tokens,
                   "most tokens in one step")
      ->capture_default_str();
  plan->add_option("--dtype", options->dtype, "bf16 or fp32")->capture_default_str();
  plan->add_flag("--json", options->json, "one JSON object");
  plan->callback([=] { *exit_status = RunPlan(*options, std::cout, std::cerr); });
}

void AddUp(CLI::App& app, int* exit_status) {
  CLI::App* up = app.add_subcommand("up", "Start a cluster on this machine and watch over it");
  auto options = std::make_shared<UpOptions>();
  auto model = std::make_shared<std::string>();
  auto allow_cross_node_tp = std::make_shared<bool>(false);
  auto skip_tokenizer_init = std::make_shared<bool>(false);
  auto prefix_caching = std::make_shared<bool>(true);
  auto passed_on = std::make_shared<std::map<std::string, std::string>>();
  up->add_option("--model", *model, kModelHelp)->required();
  AddParallelOptions(up, &options->tp, &options->pp);
  up->add_option("--replicas,--data-parallel-size", options->replicas,
                 "groups of tp x pp ranks, each with all of the model")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  up->add_option("--nodes", options->nodes,
                 "node names to spread the ranks over (TCP between them)")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  up->add_option("--listen", options->listen, "HOST:PORT of gRPC; port 0 takes a free one")
      ->capture_default_str();
  up->add_option("--http", options->http,
                 "HOST:PORT of HTTP, in the form of OpenAI's API; port 0 takes a free one");
  up->add_option("--log-dir", options->log_dir, "where the logs go (default: a new directory)");
  up->add_flag("--allow-cross-node-tp", *allow_cross_node_tp,
               "let a tensor-parallel group span nodes, at the price of slower all-reduces");
  up->add_flag("--skip-tokenizer-init", *skip_tokenizer_init,
               "serve a model without tokenizer.json: token ids in and out, no text");
  up->add_flag("--enable-prefix-caching,!--noenable-prefix-caching,!--no-enable-prefix-caching",
               *prefix_caching,
               "keep the key-value blocks of prompts for requests that begin alike")
      ->capture_default_str();
  for (const auto& [name, help] : CoordinatorFlags()) {
    up->add_option("--" + name, (*passed_on)[name], help);
  }
  up->callback([=] {
    options->coordinator_arguments = {absl::StrCat("--model=", *model)};
    if (*allow_cross_node_tp) options->coordinator_arguments.push_back("--allow-cross-node-tp");
    if (*skip_tokenizer_init) options->coordinator_arguments.push_back("--skip-tokenizer-init");
    if (!*prefix_caching) options->coordinator_arguments.push_back("--noenable-prefix-caching");
    for (const auto& [name, value] : *passed_on) {
      if (!value.empty()) {
        options->coordinator_arguments.push_back(
            absl::StrCat("--", name.substr(0, name.find(',')), "=", value));
      }
    }
    *exit_status = RunUp(*options);
  });
}

void AddStatus(CLI::App& app, int* exit_status) {
  CLI::App* status = app.add_subcommand("status", "Show epoch, plan and what every rank is doing");
  auto options = std::make_shared<StatusOptions>();
  options->coordinator = DefaultCoordinatorAddress();
  AddCoordinatorOption(status, &options->coordinator);
  status->add_flag("--json", options->json, "one JSON object");
  status->add_flag("--watch", options->watch, "again every second");
  status->callback([=] { *exit_status = RunStatus(*options); });
}

struct GenerateFlags {
  std::string prompt;
  std::vector<int32_t> token_ids;
  std::optional<double> temperature, top_p;
  std::optional<int32_t> top_k, max_tokens;
  std::optional<uint64_t> seed;
  bool ignore_eos = false, logprobs = false, prompt_logprobs = false;
};

v1::GenerateRequest MakeRequest(const GenerateFlags& flags) {
  v1::GenerateRequest request;
  if (flags.token_ids.empty()) {
    request.set_text(flags.prompt);
  } else {
    request.mutable_tokens()->mutable_ids()->Add(flags.token_ids.begin(), flags.token_ids.end());
  }
  v1::SamplingParams* sampling = request.mutable_sampling();
  if (flags.temperature) sampling->set_temperature(*flags.temperature);
  if (flags.top_p) sampling->set_top_p(*flags.top_p);
  if (flags.top_k) sampling->set_top_k(*flags.top_k);
  if (flags.seed) sampling->set_seed(*flags.seed);
  if (flags.max_tokens) request.set_max_tokens(*flags.max_tokens);
  if (flags.ignore_eos) request.set_ignore_eos(true);
  if (flags.logprobs) request.set_logprobs(true);
  if (flags.prompt_logprobs) request.set_prompt_logprobs(true);
  return request;
}

void AddGenerate(CLI::App& app, int* exit_status) {
  CLI::App* generate = app.add_subcommand("generate", "Stream the continuation of a prompt");
  auto options = std::make_shared<GenerateOptions>();
  auto flags = std::make_shared<GenerateFlags>();
  options->coordinator = DefaultCoordinatorAddress();
  AddCoordinatorOption(generate, &options->coordinator);
  generate->add_option("prompt", flags->prompt, "text to go on from (may be empty)");
  generate->add_option("--token-ids", flags->token_ids, "the prompt as token ids instead of text")
      ->delimiter(',');
  generate->add_option("--temperature", flags->temperature, "0 is greedy (default: the model's)");
  generate->add_option("--top-p", flags->top_p, "keep the most probable tokens up to this sum");
  generate->add_option("--top-k", flags->top_k, "keep the k most probable tokens; 0 keeps all");
  generate->add_option("--max-tokens", flags->max_tokens, "most tokens to generate");
  generate->add_option("--seed", flags->seed, "same seed, same tokens, whatever the plan");
  generate->add_flag("--ignore-eos", flags->ignore_eos, "go on past the model's end tokens");
  generate->add_flag("--logprobs", flags->logprobs, "with --json: of generated tokens");
  generate->add_flag("--prompt-logprobs", flags->prompt_logprobs, "with --json: of prompt tokens");
  generate->add_flag("--echo", options->echo, "print the prompt before the continuation");
  generate->add_flag("--json", options->json, "one JSON object a message instead of the text");
  generate->callback([=] {
    options->request = MakeRequest(*flags);
    *exit_status = RunGenerate(*options);
  });
}

void AddBenchLoad(CLI::App* bench, BenchOptions* options) {
  const CLI::Range at_least_one(int64_t{1}, int64_t{1} << 40);
  bench
      ->add_option("--concurrency,--max-concurrency", options->concurrency,
                   "most requests at once (default 16, or without a limit with --rate)")
      ->check(CLI::Range(1, 1 << 20));
  bench
      ->add_option("--rate,--request-rate", options->rate,
                   "requests a second, as a Poisson process (default: as soon as there is room)")
      ->check(CLI::Range(1e-6, 1e6));
  bench
      ->add_option("--requests,--num-prompts", options->requests,
                   "requests to send (default 100, or no limit with --duration)")
      ->check(at_least_one);
  bench
      ->add_option("--duration", options->duration_s,
                   "seconds after which nothing more is sent; what runs then is finished")
      ->check(CLI::Range(1e-3, 1e9));
  bench
      ->add_option("--warmup,--num-warmups", options->warmup,
                   "requests before the measured ones, under the same load")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  bench->add_option("--channels", options->channels, "connections, used in turn")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
}

void AddBenchWorkload(CLI::App* bench, BenchOptions* options) {
  bench
      ->add_option("--prompt-tokens,--input-len,--random-input-len", options->prompt_tokens,
                   "own tokens of a prompt: 64, uniform:32-512, lognormal:MEAN,SIGMA[,MOST]")
      ->capture_default_str();
  bench
      ->add_option("--output-tokens,--output-len,--random-output-len", options->output_tokens,
                   "most tokens to generate, in the same forms")
      ->capture_default_str();
  bench
      ->add_option("--shared-prefix-tokens,--prefix-repetition-prefix-len",
                   options->shared_prefix_tokens, "tokens before them that prompts share")
      ->check(CLI::Range(0, 1 << 30))
      ->capture_default_str();
  bench
      ->add_option("--prefixes,--prefix-repetition-num-prefixes", options->prefixes,
                   "different shared beginnings, used in turn")
      ->check(CLI::Range(1, 1 << 30))
      ->capture_default_str();
  bench->add_flag("--ignore-eos", options->ignore_eos, "go on past the model's end tokens");
  bench->add_option("--temperature", options->temperature, "0 is greedy (default: the model's)");
  bench->add_option("--seed", options->seed, "of prompts, lengths, arrivals and sampling")
      ->capture_default_str();
}

void AddBench(CLI::App& app, int* exit_status) {
  CLI::App* bench =
      app.add_subcommand("bench", "Put load on a running server and print latency and throughput");
  auto options = std::make_shared<BenchOptions>();
  options->coordinator = DefaultCoordinatorAddress();
  AddCoordinatorOption(bench, &options->coordinator);
  AddBenchLoad(bench, options.get());
  AddBenchWorkload(bench, options.get());
  bench->add_flag("--json", options->json, "one JSON object");
  bench->callback([=] { *exit_status = RunBench(*options); });
}

int Main(int argc, char** argv) {
  CLI::App app("Plans, starts, shows and drives a Lockstep cluster.", "coordinatorctl");
  app.require_subcommand(1);
  int exit_status = 0;
  AddPlan(app, &exit_status);
  AddUp(app, &exit_status);
  AddStatus(app, &exit_status);
  AddGenerate(app, &exit_status);
  AddBench(app, &exit_status);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // --help comes this way too; `exit` prints what is due and chooses the status.
    return app.exit(error) == 0 ? 0 : 2;
  }
  return exit_status;
}

}  // namespace
}  // namespace lockstep::coordinator

int main(int argc, char** argv) { return lockstep::coordinator::Main(argc, argv); }
