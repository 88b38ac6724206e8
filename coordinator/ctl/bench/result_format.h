// How `coordinatorctl bench` shows its figures: pure functions of the result.
#ifndef LOCKSTEP_COORDINATOR_CTL_BENCH_RESULT_FORMAT_H_
#define LOCKSTEP_COORDINATOR_CTL_BENCH_RESULT_FORMAT_H_

#include <string>

#include "coordinator/ctl/bench/bench_result.h"

namespace lockstep::coordinator {

/// For a person: counts, throughput, a table of latencies, errors; the last line ended.
std::string FormatBenchResult(const BenchResult& result);

/// One JSON object on one line, ended; its keys are vLLM's where vLLM has the figure ("completed",
/// "request_throughput", "p99_ttft_ms" ...).
std::string FormatBenchResultJson(const BenchResult& result);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CTL_BENCH_RESULT_FORMAT_H_
