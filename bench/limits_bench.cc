// Prints what this machine can do, as JSON lines: read bandwidth (--probe), or the time of products
// at given shapes by each implementation (--products). bench/run.py holds Lockstep against it.
#include <algorithm>
#include <functional>
#include <iostream>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/dtype.h"
#include "base/status_macros.h"
#include "bench/onednn_rate.h"
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

/// An implementation of a product: each call runs it once and returns its seconds.
struct Contender {
  std::string name;
  std::function<double()> measure;
};

absl::Status Probe(kernels::ThreadPool& pool) {
  // Several times any last-level cache, and long enough to outlast a time slice.
  constexpr int64_t kBytes = int64_t{1} << 30;
  LOCKSTEP_ASSIGN_OR_RETURN(double bandwidth, kernels::ReadBandwidth(kBytes, pool));
  std::cout << nlohmann::json({{"bytes_per_second", bandwidth}}).dump() << std::endl;
  return absl::OkStatus();
}

/// oneDNN in bf16 and in fp32, and our own product, each over more weights than a cache holds, as
/// in a model.
absl::StatusOr<std::vector<Contender>> Contenders(int64_t rows, int64_t n, int64_t k,
                                                  kernels::ThreadPool& pool) {
  constexpr int64_t kFootprint = int64_t{128} << 20;
  std::vector<Contender> contenders;
  for (DType dtype : {DType::kBF16, DType::kF32}) {
    LOCKSTEP_ASSIGN_OR_RETURN(std::shared_ptr<OneDnnProduct> product,
                              OneDnnProduct::Create(dtype, rows, n, k, kFootprint));
    contenders.push_back({absl::StrCat("onednn ", std::string(Name(dtype))),
                          [product] { return product->Measure(); }});
  }
  LOCKSTEP_ASSIGN_OR_RETURN(std::shared_ptr<kernels::ProductProbe> own,
                            kernels::ProductProbe::Create(kernels::ProductKind::kOwn, DType::kBF16,
                                                          rows, n, k, kFootprint, pool));
  contenders.push_back({"own bf16", [own, &pool] { return own->Measure(pool); }});
  return contenders;
}

absl::Status MeasureShape(const Options& options, int64_t n, int64_t k, kernels::ThreadPool& pool) {
  LOCKSTEP_ASSIGN_OR_RETURN(std::vector<Contender> contenders,
                            Contenders(options.rows, n, k, pool));
  std::vector<double> best(contenders.size(), std::numeric_limits<double>::infinity());
  for (int run = 0; run < options.runs; ++run) {
    for (size_t i = 0; i < contenders.size(); ++i) {
      best[i] = std::min(best[i], contenders[i].measure());
    }
  }
  const double operations = 2.0 * static_cast<double>(options.rows * n * k);
  for (size_t i = 0; i < contenders.size(); ++i) {
    std::cout << nlohmann::json({{"n", n},
                                 {"k", k},
                                 {"rows", options.rows},
                                 {"kind", contenders[i].name},
                                 {"seconds", best[i]},
                                 {"flops", operations / best[i]}})
                     .dump()
              << std::endl;
  }
  return absl::OkStatus();
}

absl::Status Run(const Options& options) {
  // OpenMP's threads inherit where their maker may run: they are made before the pool pins this
  // thread.
  LOCKSTEP_ASSIGN_OR_RETURN(auto first, OneDnnProduct::Create(DType::kF32, 512, 1024, 1024, 0));
  first->Measure();
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
