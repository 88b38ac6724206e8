// See bench_result.h.
#include "coordinator/ctl/bench/bench_result.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lockstep::coordinator {
namespace {

double Ms(int64_t ns) { return static_cast<double>(ns) * 1e-6; }

/// One value a request, but for inter-token times.
struct Latencies {
  std::vector<double> ttft_ms;
  std::vector<double> tpot_ms;
  std::vector<double> itl_ms;
  std::vector<double> e2el_ms;
};

int64_t OutputTokens(const RequestRecord& record) {
  int64_t tokens = 0;
  for (const TokenArrival& arrival : record.arrivals) tokens += arrival.tokens;
  return tokens;
}

void AddLatencies(const RequestRecord& record, Latencies* latencies) {
  latencies->e2el_ms.push_back(Ms(record.done_ns - record.sent_ns));
  if (record.arrivals.empty()) return;
  const int64_t first_ns = record.arrivals.front().at_ns;
  latencies->ttft_ms.push_back(Ms(first_ns - record.sent_ns));
  for (size_t i = 1; i < record.arrivals.size(); ++i) {
    latencies->itl_ms.push_back(Ms(record.arrivals[i].at_ns - record.arrivals[i - 1].at_ns));
  }
  const int64_t tokens = OutputTokens(record);
  if (tokens > 1) {
    latencies->tpot_ms.push_back(Ms(record.arrivals.back().at_ns - first_ns) /
                                 static_cast<double>(tokens - 1));
  }
}

std::vector<ErrorCount> CountErrors(const std::vector<RequestRecord>& records) {
  std::map<absl::StatusCode, ErrorCount> by_code;
  for (const RequestRecord& record : records) {
    if (record.status.ok()) continue;
    ErrorCount& error = by_code[record.status.code()];
    if (error.count++ == 0) {
      error.code = absl::StatusCodeToString(record.status.code());
      error.message = absl::StrCat(record.status.message());
    }
  }
  std::vector<ErrorCount> errors;
  for (auto& [code, error] : by_code) errors.push_back(std::move(error));
  std::stable_sort(errors.begin(), errors.end(),
                   [](const ErrorCount& a, const ErrorCount& b) { return a.count > b.count; });
  return errors;
}

double SecondsOf(const std::vector<RequestRecord>& records) {
  if (records.empty()) return 0;
  int64_t begin_ns = INT64_MAX;
  int64_t end_ns = 0;
  for (const RequestRecord& record : records) {
    begin_ns = std::min(begin_ns, record.sent_ns);
    end_ns = std::max(end_ns, record.done_ns);
  }
  return static_cast<double>(end_ns - begin_ns) * 1e-9;
}

}  // namespace

BenchResult MakeBenchResult(const LoadResult& load, std::optional<int64_t> concurrency) {
  BenchResult result{.max_in_flight = load.max_in_flight, .seconds = SecondsOf(load.records)};
  Latencies latencies;
  for (const RequestRecord& record : load.records) {
    if (!record.status.ok()) continue;
    ++result.completed;
    result.prompt_tokens += record.prompt_tokens;
    result.cached_tokens += record.cached_tokens;
    result.output_tokens += OutputTokens(record);
    AddLatencies(record, &latencies);
  }
  result.failed = static_cast<int64_t>(load.records.size()) - result.completed;
  result.ttft_ms = Summarize(std::move(latencies.ttft_ms));
  result.tpot_ms = Summarize(std::move(latencies.tpot_ms));
  result.itl_ms = Summarize(std::move(latencies.itl_ms));
  result.e2el_ms = Summarize(std::move(latencies.e2el_ms));
  if (concurrency) result.decode_window = FindDecodeWindow(load.records, *concurrency);
  result.errors = CountErrors(load.records);
  if (result.seconds > 0) {
    result.requests_per_second = static_cast<double>(result.completed) / result.seconds;
    result.output_tokens_per_second = static_cast<double>(result.output_tokens) / result.seconds;
    result.total_tokens_per_second =
        static_cast<double>(result.prompt_tokens + result.output_tokens) / result.seconds;
    result.client_cpus = load.cpu_seconds / result.seconds;
  }
  return result;
}

}  // namespace lockstep::coordinator
