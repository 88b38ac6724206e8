// See bench_command.h.
#include "coordinator/ctl/bench_command.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <iostream>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "coordinator/ctl/admin_client.h"
#include "coordinator/ctl/bench/bench_result.h"
#include "coordinator/ctl/bench/load_generator.h"
#include "coordinator/ctl/bench/progress_format.h"
#include "coordinator/ctl/bench/result_format.h"
#include "coordinator/ctl/bench/workload.h"
#include "grpcpp/client_context.h"
#include "proto/lockstep/v1/inference.grpc.pb.h"

namespace lockstep::coordinator {
namespace {

constexpr int64_t kDefaultConcurrency = 16;
constexpr int64_t kDefaultRequests = 100;

std::atomic<bool> interrupted{false};

void Interrupt(int) { interrupted = true; }

/// Without a rate there is a concurrency, and without a duration a number of requests.
LoadOptions ResolveLoad(const BenchOptions& options) {
  LoadOptions load{.concurrency = options.concurrency,
                   .rate = options.rate,
                   .requests = options.requests,
                   .seconds = options.duration_s,
                   .seed = options.seed};
  if (!load.rate && !load.concurrency) load.concurrency = kDefaultConcurrency;
  if (!load.seconds && !load.requests) load.requests = kDefaultRequests;
  return load;
}

absl::StatusOr<LengthDistribution> ParseFlag(std::string_view flag, std::string_view value) {
  absl::StatusOr<LengthDistribution> lengths = LengthDistribution::Parse(value);
  if (lengths.ok()) return lengths;
  return absl::InvalidArgumentError(
      absl::StrCat(std::string(flag), ": ", lengths.status().message()));
}

/// All but the vocabulary, which the server knows.
absl::StatusOr<Workload> ParseWorkload(const BenchOptions& options) {
  Workload workload{.shared_prefix_tokens = options.shared_prefix_tokens,
                    .prefixes = options.prefixes,
                    .ignore_eos = options.ignore_eos,
                    .temperature = options.temperature,
                    .seed = options.seed};
  LOCKSTEP_ASSIGN_OR_RETURN(workload.prompt_tokens,
                            ParseFlag("--prompt-tokens", options.prompt_tokens));
  LOCKSTEP_ASSIGN_OR_RETURN(workload.output_tokens,
                            ParseFlag("--output-tokens", options.output_tokens));
  return workload;
}

absl::StatusOr<int64_t> VocabSize(const std::shared_ptr<grpc::Channel>& channel,
                                  const std::string& address) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(10)));
  v1::GetModelResponse model;
  const grpc::Status status =
      v1::InferenceService::NewStub(channel)->GetModel(&context, v1::GetModelRequest(), &model);
  if (!status.ok()) {
    return absl::UnavailableError(
        absl::StrCat("no server answers at ", address, " (", status.error_message(),
                     "); start one with `coordinatorctl up` or name another with --coordinator"));
  }
  if (model.vocab_size() < 1) {
    return absl::InternalError(
        absl::StrCat("the server at ", address, " has a vocabulary of ", model.vocab_size()));
  }
  return model.vocab_size();
}

/// A bar that is drawn over again on a terminal, else a line now and then.
class ProgressPrinter {
 public:
  explicit ProgressPrinter(const LoadOptions& options) : options_(options) {}
  ~ProgressPrinter() {
    if (is_terminal_) std::cerr << "\r\033[K" << std::flush;
  }

  void Show(const LoadProgress& progress) {
    if (is_terminal_) {
      std::cerr << "\r" << FormatProgressBar(progress, options_) << "\033[K" << std::flush;
    } else if (progress.seconds >= next_s_) {
      std::cerr << "bench: " << FormatProgressBar(progress, options_) << std::endl;
      next_s_ = progress.seconds + kLineEverySeconds;
    }
  }

 private:
  static constexpr double kLineEverySeconds = 5;

  const LoadOptions options_;
  const bool is_terminal_ = isatty(STDERR_FILENO) == 1;
  double next_s_ = kLineEverySeconds;
};

LoadResult Generate(const std::vector<std::shared_ptr<grpc::Channel>>& channels,
                    const LoadOptions& load, const Workload& workload) {
  ProgressPrinter printer(load);
  return GenerateLoad(
      channels, load, [&](int64_t index) { return MakeRequest(workload, index); },
      [&](const LoadProgress& progress) { printer.Show(progress); }, interrupted);
}

/// Other prompts than the measured ones, so that none of these is found in the prefix cache.
void WarmUp(const std::vector<std::shared_ptr<grpc::Channel>>& channels, LoadOptions load,
            Workload workload, int64_t requests) {
  if (requests == 0) return;
  load.requests = requests;
  load.seconds.reset();
  workload.seed = ~workload.seed;
  std::cerr << "bench: " << requests << " requests to warm up" << std::endl;
  Generate(channels, load, workload);
}

int Fail(const absl::Status& status, int exit_status) {
  std::cerr << "coordinatorctl: " << status.message() << std::endl;
  return exit_status;
}

}  // namespace

int RunBench(const BenchOptions& options) {
  absl::StatusOr<Workload> workload = ParseWorkload(options);
  if (!workload.ok()) return Fail(workload.status(), 2);
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (int i = 0; i < options.channels; ++i) {
    channels.push_back(MakeSeparateChannel(options.coordinator));
  }
  absl::StatusOr<int64_t> vocab_size = VocabSize(channels[0], options.coordinator);
  if (!vocab_size.ok()) return Fail(vocab_size.status(), 1);
  workload->vocab_size = *vocab_size;
  signal(SIGINT, Interrupt);
  const LoadOptions load = ResolveLoad(options);
  WarmUp(channels, load, *workload, options.warmup);
  const LoadResult measured = Generate(channels, load, *workload);
  const BenchResult result = MakeBenchResult(measured, load.concurrency);
  std::cout << (options.json ? FormatBenchResultJson(result) : FormatBenchResult(result))
            << std::flush;
  if (interrupted) return 130;
  return result.failed == 0 ? 0 : 1;
}

}  // namespace lockstep::coordinator
