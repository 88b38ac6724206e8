// The rules of the division, each with the words of its refusal.
#include "model/plan_rules.h"

#include <numeric>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"

namespace lockstep::model {
namespace {

constexpr int kMaxSize = 1 << 16;
constexpr int kMaxConcurrency = 1 << 20;
constexpr int64_t kMaxBatchTokens = 1 << 20;

/// Why the model cannot be divided by `tp_size`; nullopt when it can.
std::optional<std::string> TpProblem(const DecoderSpec& spec, int tp_size) {
  int heads = spec.attention.num_heads;
  int kv_heads = spec.attention.kv_heads;
  if (tp_size > heads) return absl::StrCat(" exceeds the ", heads, " attention heads");
  if (heads % tp_size != 0) {
    return absl::StrCat(" does not divide the ", heads, " attention heads");
  }
  if (kv_heads % tp_size != 0 && tp_size % kv_heads != 0) {
    return absl::StrCat(" neither divides the ", kv_heads, " KV heads nor is a multiple of them");
  }
  if (spec.mlp.intermediate_size % tp_size != 0) {
    return absl::StrCat(" does not divide the FFN size ", spec.mlp.intermediate_size);
  }
  int64_t vocab_slice = (spec.vocab_size + tp_size - 1) / tp_size;
  if (vocab_slice * (tp_size - 1) >= spec.vocab_size) {
    return absl::StrCat(" leaves a rank without a row of the vocabulary of ", spec.vocab_size);
  }
  return std::nullopt;
}

/// Why a TP group cannot be placed on the request's nodes; nullopt when it can.
std::optional<std::string> NodeProblem(int tp_size, const PlanRequest& request) {
  int devices = request.devices_per_node;
  if (devices == 0 || tp_size <= devices) return std::nullopt;
  if (!request.allow_cross_node_tp) {
    return absl::StrCat(" does not fit into a node of ", devices,
                        " devices (each layer all-reduces twice; use --pp across nodes, or insist "
                        "with --allow-cross-node-tp)");
  }
  if (tp_size % devices == 0) return std::nullopt;
  return absl::StrCat(" crosses nodes but is not a multiple of their ", devices, " devices");
}

absl::Status CheckRange(const char* what, int64_t value, int64_t min, int64_t max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, " is ", value, ", but must be from ", min, " to ", max));
}

absl::Status CheckNumbers(const DecoderSpec& spec, const PlanRequest& request) {
  LOCKSTEP_RETURN_IF_ERROR(CheckRange("--tp", request.tp_size, 1, kMaxSize));
  LOCKSTEP_RETURN_IF_ERROR(CheckRange("--pp", request.pp_size, 1, kMaxSize));
  if (int64_t ranks = int64_t{request.tp_size} * request.pp_size; ranks > kMaxSize) {
    return absl::InvalidArgumentError(absl::StrCat("TP ", request.tp_size, " x PP ",
                                                   request.pp_size, " makes ", ranks,
                                                   " ranks; at most ", kMaxSize, " are possible"));
  }
  LOCKSTEP_RETURN_IF_ERROR(CheckRange("--devices-per-node", request.devices_per_node, 0, kMaxSize));
  LOCKSTEP_RETURN_IF_ERROR(CheckRange("--concurrency", request.concurrency, 1, kMaxConcurrency));
  LOCKSTEP_RETURN_IF_ERROR(CheckRange("--context", request.context_tokens, 0, spec.max_position));
  LOCKSTEP_RETURN_IF_ERROR(
      CheckRange("the largest step in tokens", request.batch_tokens, 1, kMaxBatchTokens));
  if (request.device_memory_bytes.has_value()) {
    LOCKSTEP_RETURN_IF_ERROR(
        CheckRange("--device-memory", *request.device_memory_bytes, 1, INT64_MAX));
  }
  if (!(request.memory_fraction > 0 && request.memory_fraction <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat("the fraction of device memory to use is ",
                                                   request.memory_fraction,
                                                   ", but must be above 0 and at most 1"));
  }
  if (request.dtype == DType::kF16) {
    return absl::InvalidArgumentError("--dtype is fp16, but must be bf16 or fp32");
  }
  return absl::OkStatus();
}

}  // namespace

std::string ListSizes(const std::vector<int>& sizes) {
  bool run = sizes.size() > 4 && sizes.back() - sizes.front() + 1 == static_cast<int>(sizes.size());
  if (run) return absl::StrCat(sizes.front(), " to ", sizes.back());
  return sizes.empty() ? "none" : absl::StrJoin(sizes, ", ");
}

std::vector<int> LegalTpSizes(const DecoderSpec& spec) { return LegalTpSizes(spec, PlanRequest()); }

std::vector<int> LegalTpSizes(const DecoderSpec& spec, const PlanRequest& request) {
  std::vector<int> sizes;
  for (int tp_size = 1; tp_size <= spec.attention.num_heads; ++tp_size) {
    if (!TpProblem(spec, tp_size) && !NodeProblem(tp_size, request)) sizes.push_back(tp_size);
  }
  return sizes;
}

std::vector<int> LegalPpSizes(const DecoderSpec& spec) {
  std::vector<int> sizes(spec.num_layers);
  std::iota(sizes.begin(), sizes.end(), 1);
  return sizes;
}

absl::Status CheckPlanRules(const DecoderSpec& spec, const PlanRequest& request) {
  LOCKSTEP_RETURN_IF_ERROR(CheckNumbers(spec, request));
  std::optional<std::string> problem = TpProblem(spec, request.tp_size);
  if (!problem) problem = NodeProblem(request.tp_size, request);
  if (problem) {
    return absl::FailedPreconditionError(
        absl::StrCat("TP ", request.tp_size, *problem,
                     "; legal TP sizes: ", ListSizes(LegalTpSizes(spec, request))));
  }
  if (request.pp_size > spec.num_layers) {
    return absl::FailedPreconditionError(
        absl::StrCat("PP ", request.pp_size, " exceeds the ", spec.num_layers,
                     " layers; legal PP sizes: ", ListSizes(LegalPpSizes(spec))));
  }
  return absl::OkStatus();
}

}  // namespace lockstep::model
