// See result_format.h.
#include "coordinator/ctl/bench/result_format.h"

#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "coordinator/plan/text_table.h"
#include "nlohmann/json.hpp"

namespace lockstep::coordinator {
namespace {

// Above this share of a core the load generator's one thread may be what limits the run.
constexpr double kBusyClient = 0.9;

std::vector<std::string> LatencyRow(std::string name, const Summary& summary) {
  std::vector<std::string> row = {std::move(name)};
  for (double value : {summary.mean, summary.p50, summary.p90, summary.p99, summary.max}) {
    row.push_back(summary.count == 0 ? "-" : absl::StrFormat("%.2f", value));
  }
  return row;
}

std::string FormatLatencies(const BenchResult& result) {
  return FormatTextTable({{"latency in ms", "mean", "p50", "p90", "p99", "max"},
                          LatencyRow("to first token", result.ttft_ms),
                          LatencyRow("per output token", result.tpot_ms),
                          LatencyRow("between tokens", result.itl_ms),
                          LatencyRow("end to end", result.e2el_ms)});
}

std::vector<std::vector<std::string>> CountRows(const BenchResult& result) {
  std::vector<std::vector<std::string>> rows = {
      {"requests",
       absl::StrFormat("%d completed, %d failed in %.2f s, at most %d at once", result.completed,
                       result.failed, result.seconds, result.max_in_flight)},
      {"tokens", absl::StrFormat("%d of prompts (%d from the prefix cache), %d generated",
                                 result.prompt_tokens, result.cached_tokens, result.output_tokens)},
      {"throughput", absl::StrFormat("%.2f requests/s, %.1f output tokens/s, %.1f tokens/s in all",
                                     result.requests_per_second, result.output_tokens_per_second,
                                     result.total_tokens_per_second)}};
  if (result.decode_window) {
    const DecodeWindow& window = *result.decode_window;
    rows.push_back(
        {"decode", absl::StrFormat("%.1f tokens/s in the %.2f s in which %d decoded",
                                   window.tokens_per_second, window.seconds, window.requests)});
  }
  if (result.client_cpus > kBusyClient) {
    rows.push_back({"note", absl::StrFormat("the load generator itself kept %.2f cores busy and "
                                            "may be what was measured",
                                            result.client_cpus)});
  }
  return rows;
}

void AddSummary(std::string_view name, const Summary& summary, nlohmann::json* json) {
  auto add = [&](std::string_view statistic, double value) {
    (*json)[std::string(statistic) + "_" + std::string(name) + "_ms"] = value;
  };
  add("mean", summary.mean);
  add("median", summary.p50);
  add("p90", summary.p90);
  add("p99", summary.p99);
  add("max", summary.max);
}

}  // namespace

std::string FormatBenchResult(const BenchResult& result) {
  std::string text =
      absl::StrCat(FormatTextTable(CountRows(result)), "\n", FormatLatencies(result));
  if (result.errors.empty()) return text;
  std::vector<std::vector<std::string>> errors = {{"errors", "count", "the first one's words"}};
  for (const ErrorCount& error : result.errors) {
    errors.push_back({error.code, absl::StrCat(error.count), error.message});
  }
  return absl::StrCat(text, "\n", FormatTextTable(errors));
}

std::string FormatBenchResultJson(const BenchResult& result) {
  nlohmann::json json = {{"duration", result.seconds},
                         {"completed", result.completed},
                         {"failed", result.failed},
                         {"max_concurrent_requests", result.max_in_flight},
                         {"total_input_tokens", result.prompt_tokens},
                         {"total_cached_tokens", result.cached_tokens},
                         {"total_output_tokens", result.output_tokens},
                         {"request_throughput", result.requests_per_second},
                         {"output_throughput", result.output_tokens_per_second},
                         {"total_token_throughput", result.total_tokens_per_second},
                         {"client_cpus", result.client_cpus}};
  AddSummary("ttft", result.ttft_ms, &json);
  AddSummary("tpot", result.tpot_ms, &json);
  AddSummary("itl", result.itl_ms, &json);
  AddSummary("e2el", result.e2el_ms, &json);
  json["decode_window"] = nullptr;
  if (result.decode_window) {
    json["decode_window"] = {{"requests", result.decode_window->requests},
                             {"duration", result.decode_window->seconds},
                             {"output_throughput", result.decode_window->tokens_per_second}};
  }
  json["errors"] = nlohmann::json::array();
  for (const ErrorCount& error : result.errors) {
    json["errors"].push_back(
        {{"code", error.code}, {"count", error.count}, {"message", error.message}});
  }
  // A server's words need not be UTF-8.
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace lockstep::coordinator
