// One line on a benchmark that runs.
#ifndef LOCKSTEP_COORDINATOR_CTL_BENCH_PROGRESS_FORMAT_H_
#define LOCKSTEP_COORDINATOR_CTL_BENCH_PROGRESS_FORMAT_H_

#include <string>

#include "coordinator/ctl/bench/load_generator.h"

namespace lockstep::coordinator {

/// How much of the run is over, from 0 to 1: by requests or by time, whichever ends it sooner.
double FractionDone(const LoadProgress& progress, const LoadOptions& options);

/// "[#####---------------]  25%  12/48 requests, 1 failed, 3 running, 250 tokens/s, 9 s left"; no
/// line end. The rate is the whole run's so far.
std::string FormatProgressBar(const LoadProgress& progress, const LoadOptions& options);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CTL_BENCH_PROGRESS_FORMAT_H_
