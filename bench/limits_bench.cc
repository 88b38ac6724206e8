// Prints what this machine can do, as JSON lines: read bandwidth (--probe), or the time of products
// at given shapes by each implementation (--products). bench/run.py holds Lockstep against it.
#include <algorithm>
#include <iostream>
#include <limits>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/dtype.h"
#include "base/status_macros.h"
#include "kernels/probe.h"
#include "kernels/product.h"
#include "kernels/thread_pool.h"
#include "nlohmann/json.hpp"

namespace lockstep::bench {
namespace {

struct Options {
  bool probe = false;
  std::vector<int> cpus;
  int64_t rows = 512;
  std::vector<std::string> shapes;  // "3072x2048": out features x in features
  int runs = 3;
};

struct Contender {
  std::string name;
  kernels::ProductKind kind;
  DType storage;
};

const std::vector<Contender>& Contenders() {
  static const auto& contenders = *new std::vector<Contender>{
      {"onednn bf16", kernels::ProductKind::kOneDnn, DType::kBF16},
      {"onednn fp32", kernels::ProductKind::kOneDnn, DType::kF32},
      {"own bf16", kernels::ProductKind::kOwn, DType::kBF16},
  };
  return contenders;
}

absl::Status Probe(kernels::ThreadPool& pool) {
  // Several times any last-level cache, and long enough to outlast a time slice.
  constexpr int64_t kBytes = int64_t{1} << 30;
  LOCKSTEP_ASSIGN_OR_RETURN(double bandwidth, kernels::ReadBandwidth(kBytes, pool));
  std::cout << nlohmann::json({{"bytes_per_second", bandwidth}}).dump() << std::endl;
  return absl::OkStatus();
}

/// The contenders that one product each shows to be in the race: where an implementation is
/// emulated (oneDNN's bf16 without instructions for it) it takes many times as long, and so would
/// the bench.
absl::StatusOr<std::vector<Contender>> InTheRace(const Options& options, int64_t n, int64_t k,
                                                 kernels::ThreadPool& pool) {
  constexpr int64_t kFewRows = 8;
  constexpr double kHopeless = 5;
  std::vector<double> seconds;
  for (const Contender& contender : Contenders()) {
    LOCKSTEP_ASSIGN_OR_RETURN(auto probe,
                              kernels::ProductProbe::Create(contender.kind, contender.storage,
                                                            std::min(options.rows, kFewRows), n, k,
                                                            /*footprint_bytes=*/1, pool));
    probe->Measure(pool);  // makes what is made once
    seconds.push_back(probe->Measure(pool));
  }
  const double fastest = *std::min_element(seconds.begin(), seconds.end());
  std::vector<Contender> kept;
  for (size_t i = 0; i < seconds.size(); ++i) {
    if (seconds[i] < kHopeless * fastest) kept.push_back(Contenders()[i]);
  }
  return kept;
}

absl::Status MeasureShape(const Options& options, int64_t n, int64_t k, kernels::ThreadPool& pool) {
  // More weights than a cache holds, as in a model: each product finds its own in memory.
  constexpr int64_t kFootprint = int64_t{128} << 20;
  LOCKSTEP_ASSIGN_OR_RETURN(std::vector<Contender> contenders, InTheRace(options, n, k, pool));
  std::vector<std::unique_ptr<kernels::ProductProbe>> probes;
  for (const Contender& contender : contenders) {
    LOCKSTEP_ASSIGN_OR_RETURN(probes.emplace_back(),
                              kernels::ProductProbe::Create(contender.kind, contender.storage,
                                                            options.rows, n, k, kFootprint, pool));
  }
  std::vector<double> best(probes.size(), std::numeric_limits<double>::infinity());
  for (int run = 0; run < options.runs; ++run) {
    for (size_t i = 0; i < probes.size(); ++i)
      best[i] = std::min(best[i], probes[i]->Measure(pool));
  }
  for (size_t i = 0; i < probes.size(); ++i) {
    std::cout << nlohmann::json({{"n", n},
                                 {"k", k},
                                 {"rows", options.rows},
                                 {"kind", contenders[i].name},
                                 {"seconds", best[i]},
                                 {"flops", probes[i]->operations() / best[i]}})
                     .dump()
              << std::endl;
  }
  return absl::OkStatus();
}

absl::Status Run(const Options& options) {
  kernels::ThreadPool pool(options.cpus);
  if (options.probe) LOCKSTEP_RETURN_IF_ERROR(Probe(pool));
  for (const std::string& shape : options.shapes) {
    std::pair<std::string, std::string> parts = absl::StrSplit(shape, 'x');
    int64_t n = 0;
    int64_t k = 0;
    if (!absl::SimpleAtoi(parts.first, &n) || !absl::SimpleAtoi(parts.second, &k)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--shapes has \"", shape, "\"; wanted OUTxIN, as in 3072x2048"));
    }
    LOCKSTEP_RETURN_IF_ERROR(MeasureShape(options, n, k, pool));
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace lockstep::bench

int main(int argc, char** argv) {
  CLI::App app("Prints what this machine can do, as JSON lines.");
  lockstep::bench::Options options;
  app.add_flag("--probe", options.probe, "read bandwidth of all the CPUs together");
  app.add_option("--shapes", options.shapes, "products to time: OUTxIN,...")->delimiter(',');
  app.add_option("--rows", options.rows, "rows of a product")->capture_default_str();
  app.add_option("--runs", options.runs, "of each, interleaved; the best counts")
      ->capture_default_str();
  app.add_option("--cpus", options.cpus, "one thread on each of these")->delimiter(',')->required();
  CLI11_PARSE(app, argc, argv);
  absl::Status status = lockstep::bench::Run(options);
  if (status.ok()) return 0;
  std::cerr << "limits_bench: " << status.message() << std::endl;
  return 1;
}
