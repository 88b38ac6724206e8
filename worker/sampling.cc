// The last check before a parameter reaches arithmetic: whatever the coordinator let through, no
// NaN and no id beyond the vocabulary gets further than here.
#include "worker/sampling.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace lockstep::worker {
namespace {

constexpr int kMaxBiases = 1024;
constexpr float kMaxBias = 100;

template <typename... Parts>
absl::Status Refuse(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

// NaN is in no range.
absl::Status CheckRange(const char* name, double value, double low, double high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return Refuse(name, " ", value, " is not in [", low, ", ", high, "]");
}

absl::Status CheckPositive(const char* name, double value, double high) {
  if (value > 0 && value <= high) return absl::OkStatus();
  return Refuse(name, " ", value, " is not in (0, ", high, "]");
}

absl::Status CheckNumbers(const Sampling& sampling, int64_t vocab_size) {
  LOCKSTEP_RETURN_IF_ERROR(CheckRange("temperature", sampling.temperature, 0, 100));
  LOCKSTEP_RETURN_IF_ERROR(CheckRange("top_k", sampling.top_k, 0, vocab_size));
  LOCKSTEP_RETURN_IF_ERROR(CheckPositive("top_p", sampling.top_p, 1));
  LOCKSTEP_RETURN_IF_ERROR(CheckRange("min_p", sampling.min_p, 0, 1));
  LOCKSTEP_RETURN_IF_ERROR(CheckPositive("repetition_penalty", sampling.repetition_penalty, 100));
  LOCKSTEP_RETURN_IF_ERROR(CheckRange("presence_penalty", sampling.presence_penalty, -2, 2));
  LOCKSTEP_RETURN_IF_ERROR(CheckRange("frequency_penalty", sampling.frequency_penalty, -2, 2));
  if (sampling.min_tokens < 0) return Refuse("min_tokens ", sampling.min_tokens, " is negative");
  return absl::OkStatus();
}

absl::Status CheckBiases(const Sampling& sampling, int64_t vocab_size) {
  if (sampling.logit_bias.size() > kMaxBiases) {
    return Refuse("logit_bias has ", sampling.logit_bias.size(), " entries, more than ",
                  kMaxBiases);
  }
  for (auto [id, bias] : sampling.logit_bias) {
    if (id < 0 || id >= vocab_size) {
      return Refuse("logit_bias of token ", id, ", which is not in the vocabulary");
    }
    LOCKSTEP_RETURN_IF_ERROR(CheckRange("logit_bias", bias, -kMaxBias, kMaxBias));
  }
  return absl::OkStatus();
}

absl::Status CheckEndTokens(const Sampling& sampling, int64_t vocab_size) {
  for (int32_t id : sampling.end_token_ids) {
    if (id < 0 || id >= vocab_size) return Refuse("end token ", id, " is not in the vocabulary");
  }
  return absl::OkStatus();
}

std::vector<int32_t> DistinctIds(const google::protobuf::RepeatedField<int32_t>& ids) {
  std::vector<int32_t> distinct(ids.begin(), ids.end());
  std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  return distinct;
}

}  // namespace

absl::StatusOr<Sampling> CheckSampling(const v1::NewSequence& sequence, int64_t vocab_size) {
  const v1::SamplingParams& params = sequence.sampling();
  if (!params.has_temperature() || !params.has_top_k() || !params.has_top_p() ||
      !params.has_seed()) {
    return Refuse(
        "a sampling parameter is lacking; the coordinator resolves temperature, top_k, "
        "top_p and seed");
  }
  Sampling sampling;
  sampling.temperature = params.temperature();
  sampling.top_k = params.top_k();
  sampling.top_p = params.top_p();
  sampling.seed = params.seed();
  sampling.choice = sequence.choice();
  sampling.min_p = params.min_p();
  if (params.has_repetition_penalty()) sampling.repetition_penalty = params.repetition_penalty();
  sampling.presence_penalty = params.presence_penalty();
  sampling.frequency_penalty = params.frequency_penalty();
  for (const auto& [id, bias] : params.logit_bias()) sampling.logit_bias.emplace_back(id, bias);
  sampling.min_tokens = params.min_tokens();
  sampling.end_token_ids = DistinctIds(sequence.end_token_ids());
  LOCKSTEP_RETURN_IF_ERROR(CheckNumbers(sampling, vocab_size));
  LOCKSTEP_RETURN_IF_ERROR(CheckBiases(sampling, vocab_size));
  LOCKSTEP_RETURN_IF_ERROR(CheckEndTokens(sampling, vocab_size));
  return sampling;
}

}  // namespace lockstep::worker
