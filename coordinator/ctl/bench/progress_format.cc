// See progress_format.h.
#include "coordinator/ctl/bench/progress_format.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace lockstep::coordinator {

double FractionDone(const LoadProgress& progress, const LoadOptions& options) {
  double fraction = 0;
  if (options.requests) {
    fraction = static_cast<double>(progress.done) / static_cast<double>(*options.requests);
  }
  if (options.seconds) fraction = std::max(fraction, progress.seconds / *options.seconds);
  return std::min(fraction, 1.0);
}

std::string FormatProgressBar(const LoadProgress& progress, const LoadOptions& options) {
  constexpr int kWidth = 20;
  const double fraction = FractionDone(progress, options);
  const int filled = static_cast<int>(std::lround(fraction * kWidth));
  std::string line = absl::StrCat("[", std::string(filled, '#'), std::string(kWidth - filled, '-'),
                                  absl::StrFormat("] %3.0f%%  %d", fraction * 100, progress.done));
  if (options.requests) absl::StrAppend(&line, "/", *options.requests);
  absl::StrAppend(&line, " requests, ");
  if (progress.failed > 0) absl::StrAppend(&line, progress.failed, " failed, ");
  absl::StrAppend(&line, progress.sent - progress.done, " running");
  if (progress.seconds > 0) {
    absl::StrAppendFormat(&line, ", %.0f tokens/s",
                          static_cast<double>(progress.output_tokens) / progress.seconds);
  }
  if (fraction > 0 && fraction < 1) {
    absl::StrAppendFormat(&line, ", %.0f s left", progress.seconds * (1 / fraction - 1));
  }
  return line;
}

}  // namespace lockstep::coordinator
