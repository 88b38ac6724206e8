// See length_distribution.h.
#include "coordinator/ctl/bench/length_distribution.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace lockstep::coordinator {
namespace {

constexpr int64_t kMostTokens = int64_t{1} << 30;

absl::Status Refusal(std::string_view text) {
  return absl::InvalidArgumentError(
      absl::StrCat("\"", std::string(text),
                   "\" is no length in tokens; wanted a number from 1 to 2^30, "
                   "uniform:LEAST-MOST, or lognormal:MEAN,SIGMA[,MOST] with SIGMA from 0 to 10"));
}

bool ParseTokens(absl::string_view text, int64_t* tokens) {
  return absl::SimpleAtoi(text, tokens) && *tokens >= 1 && *tokens <= kMostTokens;
}

}  // namespace

absl::StatusOr<LengthDistribution> LengthDistribution::ParseUniform(std::string_view range) {
  const std::vector<std::string> ends =
      absl::StrSplit(absl::string_view(range.data(), range.size()), '-');
  Uniform uniform{};
  if (ends.size() != 2 || !ParseTokens(ends[0], &uniform.least) ||
      !ParseTokens(ends[1], &uniform.most) || uniform.least > uniform.most) {
    return Refusal(absl::StrCat("uniform:", std::string(range)));
  }
  return LengthDistribution(uniform);
}

absl::StatusOr<LengthDistribution> LengthDistribution::ParseLognormal(std::string_view parameters) {
  const std::vector<std::string> parts =
      absl::StrSplit(absl::string_view(parameters.data(), parameters.size()), ',');
  double mean = 0;
  double sigma = 0;
  int64_t most = kMostTokens;
  // Written so that NaN fails.
  const bool legal =
      (parts.size() == 2 || parts.size() == 3) && absl::SimpleAtod(parts[0], &mean) && mean >= 1 &&
      mean <= static_cast<double>(kMostTokens) && absl::SimpleAtod(parts[1], &sigma) &&
      sigma >= 0 && sigma <= 10 && (parts.size() == 2 || ParseTokens(parts[2], &most));
  if (!legal) return Refusal(absl::StrCat("lognormal:", std::string(parameters)));
  // The mean of exp(N(mu, sigma)) is exp(mu + sigma^2 / 2).
  return LengthDistribution(Lognormal{std::log(mean) - sigma * sigma / 2, sigma, most});
}

absl::StatusOr<LengthDistribution> LengthDistribution::Parse(std::string_view text) {
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos) {
    int64_t tokens = 0;
    if (!ParseTokens(absl::string_view(text.data(), text.size()), &tokens)) return Refusal(text);
    return LengthDistribution(tokens);
  }
  const std::string_view name = text.substr(0, colon);
  if (name == "uniform") return ParseUniform(text.substr(colon + 1));
  if (name == "lognormal") return ParseLognormal(text.substr(colon + 1));
  return Refusal(text);
}

int64_t LengthDistribution::Sample(std::mt19937_64& generator) const {
  if (const Uniform* uniform = std::get_if<Uniform>(&kind_)) {
    return std::uniform_int_distribution<int64_t>(uniform->least, uniform->most)(generator);
  }
  const Lognormal& lognormal = std::get<Lognormal>(kind_);
  const double length =
      std::lognormal_distribution<double>(lognormal.log_mean, lognormal.log_deviation)(generator);
  return std::llround(std::clamp(length, 1.0, static_cast<double>(lognormal.most)));
}

}  // namespace lockstep::coordinator
