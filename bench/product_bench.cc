// Holds the product against this machine's limits, as JSON lines: decode shapes against the read
// bandwidth, prefill shapes against oneDNN, and tokens a second over growing batches.
#include <algorithm>
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/dtype.h"
#include "base/status_macros.h"
#include "glog/logging.h"
#include "kernels/probe.h"
#include "nlohmann/json.hpp"

ABSL_FLAG(int, threads, 1, "threads that share each product, pinned to CPUs 0, 1, ...");
ABSL_FLAG(int, rounds, 40, "how often the probe and each product take turns");
ABSL_FLAG(std::string, shapes, "3072x2048,2048x2048,16384x2048,2048x8192,128256x2048",
          "output x input features, separated by commas; default: Llama-3.2-1B");
ABSL_FLAG(std::string, parts, "decode,prefill,batch", "which parts to run");
ABSL_FLAG(int, prefill_rows, 512, "rows of the prefill part");
ABSL_FLAG(bool, onednn_bf16, true, "also run oneDNN in bf16, slow where it is emulated");

namespace lockstep {
namespace {

using kernels::ProductKind;
using kernels::ProductProbe;
using kernels::ReadProbe;
using kernels::ThreadPool;

// Several times any last-level cache, so that every pass reads memory.
constexpr int64_t kFootprint = int64_t{256} << 20;

struct Shape {
  int64_t out_features;
  int64_t in_features;
};

double Quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1))];
}

void Print(const nlohmann::json& line) { std::cout << line.dump() << std::endl; }

nlohmann::json Line(const char* part, const Shape& shape, int64_t rows, const ThreadPool& pool) {
  return {{"bench", part},
          {"rows", rows},
          {"out_features", shape.out_features},
          {"in_features", shape.in_features},
          {"threads", pool.size()}};
}

absl::StatusOr<std::vector<Shape>> ParseShapes(const std::string& text) {
  std::vector<Shape> shapes;
  for (const std::string& item : std::vector<std::string>(absl::StrSplit(text, ','))) {
    std::vector<std::string> sides = absl::StrSplit(item, 'x');
    Shape shape;
    if (sides.size() != 2 || !absl::SimpleAtoi(sides[0], &shape.out_features) ||
        !absl::SimpleAtoi(sides[1], &shape.in_features) || shape.out_features < 1 ||
        shape.in_features < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("--shapes has \"", item, "\"; legal is OUTxIN, as in 3072x2048"));
    }
    shapes.push_back(shape);
  }
  return shapes;
}

// Our product of one row and the read probe take turns; the ratio is of neighbours.
absl::Status BenchDecode(const Shape& shape, ReadProbe& memory, ThreadPool& pool) {
  LOCKSTEP_ASSIGN_OR_RETURN(
      std::unique_ptr<ProductProbe> product,
      ProductProbe::Create(ProductKind::kOwn, DType::kBF16, /*rows=*/1, shape.out_features,
                           shape.in_features, kFootprint, pool));
  std::vector<double> limits, rates, ratios;
  for (int i = 0; i < absl::GetFlag(FLAGS_rounds); ++i) {
    limits.push_back(memory.Measure(product->weight_bytes(), pool));
    rates.push_back(static_cast<double>(product->weight_bytes()) / product->Measure(pool));
    ratios.push_back(rates.back() / limits.back());
  }
  nlohmann::json line = Line("decode_product", shape, 1, pool);
  line["gb_per_s_median"] = Quantile(rates, 0.5) / 1e9;
  line["gb_per_s_best"] = Quantile(rates, 1) / 1e9;
  line["limit_gb_per_s_median"] = Quantile(limits, 0.5) / 1e9;
  line["limit_gb_per_s_best"] = Quantile(limits, 1) / 1e9;
  line["ratio_median"] = Quantile(ratios, 0.5);
  line["ratio_of_best"] = Quantile(rates, 1) / Quantile(limits, 1);
  line["limit"] = memory.way();
  Print(line);
  return absl::OkStatus();
}

struct Contender {
  const char* name;
  ProductKind kind;
  DType storage;
};

// All implementations take turns on many rows.
absl::Status BenchPrefill(const Shape& shape, ThreadPool& pool) {
  std::vector<Contender> contenders = {{"own_bf16", ProductKind::kOwn, DType::kBF16},
                                       {"onednn_fp32", ProductKind::kOneDnn, DType::kF32}};
  if (absl::GetFlag(FLAGS_onednn_bf16)) {
    contenders.push_back({"onednn_bf16", ProductKind::kOneDnn, DType::kBF16});
  }
  int64_t rows = absl::GetFlag(FLAGS_prefill_rows);
  std::vector<std::unique_ptr<ProductProbe>> products;
  for (const Contender& c : contenders) {
    LOCKSTEP_ASSIGN_OR_RETURN(
        std::unique_ptr<ProductProbe> product,
        ProductProbe::Create(c.kind, c.storage, rows, shape.out_features, shape.in_features,
                             /*footprint_bytes=*/0, pool));
    products.push_back(std::move(product));
  }
  std::vector<std::vector<double>> rates(products.size());
  for (int i = 0; i < absl::GetFlag(FLAGS_rounds); ++i) {
    for (size_t p = 0; p < products.size(); ++p) {
      rates[p].push_back(products[p]->operations() / products[p]->Measure(pool));
    }
  }
  nlohmann::json line = Line("prefill_product", shape, rows, pool);
  double fastest_median = 0, fastest_best = 0;
  for (size_t p = 0; p < products.size(); ++p) {
    std::string name = contenders[p].name;
    line[name + "_gflops_median"] = Quantile(rates[p], 0.5) / 1e9;
    line[name + "_gflops_best"] = Quantile(rates[p], 1) / 1e9;
    fastest_median = std::max(fastest_median, Quantile(rates[p], 0.5));
    fastest_best = std::max(fastest_best, Quantile(rates[p], 1));
  }
  line["own_ratio_median"] = Quantile(rates[0], 0.5) / fastest_median;
  line["own_ratio_of_best"] = Quantile(rates[0], 1) / fastest_best;
  Print(line);
  return absl::OkStatus();
}

// Rows a second must rise with the batch.
absl::Status BenchBatch(const Shape& shape, ThreadPool& pool) {
  const std::vector<int64_t> batches = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128};
  std::vector<std::unique_ptr<ProductProbe>> products;
  for (int64_t rows : batches) {
    LOCKSTEP_ASSIGN_OR_RETURN(
        std::unique_ptr<ProductProbe> product,
        ProductProbe::Create(ProductKind::kOwn, DType::kBF16, rows, shape.out_features,
                             shape.in_features, kFootprint / 4, pool));
    products.push_back(std::move(product));
  }
  std::vector<std::vector<double>> rates(products.size());
  for (int i = 0; i < absl::GetFlag(FLAGS_rounds); ++i) {
    for (size_t p = 0; p < products.size(); ++p) {
      rates[p].push_back(static_cast<double>(batches[p]) / products[p]->Measure(pool));
    }
  }
  for (size_t p = 0; p < products.size(); ++p) {
    nlohmann::json line = Line("batch_product", shape, batches[p], pool);
    line["rows_per_s_median"] = Quantile(rates[p], 0.5);
    line["rows_per_s_best"] = Quantile(rates[p], 1);
    Print(line);
  }
  return absl::OkStatus();
}

absl::Status Run() {
  LOCKSTEP_ASSIGN_OR_RETURN(std::vector<Shape> shapes, ParseShapes(absl::GetFlag(FLAGS_shapes)));
  std::vector<int> cpus;
  for (int cpu = 0; cpu < absl::GetFlag(FLAGS_threads); ++cpu) cpus.push_back(cpu);
  ThreadPool pool(cpus);
  std::vector<std::string> parts = absl::StrSplit(absl::GetFlag(FLAGS_parts), ',');
  auto wanted = [&](const char* part) {
    return std::find(parts.begin(), parts.end(), part) != parts.end();
  };
  std::unique_ptr<ReadProbe> memory;
  if (wanted("decode")) {
    LOCKSTEP_ASSIGN_OR_RETURN(memory, ReadProbe::Create(kFootprint, pool));
  }
  for (const Shape& shape : shapes) {
    if (wanted("decode")) LOCKSTEP_RETURN_IF_ERROR(BenchDecode(shape, *memory, pool));
    if (wanted("prefill")) LOCKSTEP_RETURN_IF_ERROR(BenchPrefill(shape, pool));
    if (wanted("batch")) LOCKSTEP_RETURN_IF_ERROR(BenchBatch(shape, pool));
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) {
  google::InitGoogleLogging(argv[0]);
  absl::ParseCommandLine(argc, argv);
  absl::Status status = lockstep::Run();
  if (status.ok()) return 0;
  std::cerr << "product_bench: " << status << std::endl;
  return 1;
}
