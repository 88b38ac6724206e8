// Memory arithmetic of a division. Among the ranks of a stage the first holds most (its vocabulary
// slice is never shorter than another's), so that only first ranks are looked at.
#include "model/plan_memory.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/units.h"
#include "model/plan_rules.h"
#include "model/shard_memory.h"

namespace lockstep::model {
namespace {

constexpr int64_t kMaxBytes = std::numeric_limits<int64_t>::max();
// The search for a larger plan that fits ends at this many times the devices asked for.
constexpr int kMaxGrowth = 64;

int64_t SaturatingMultiply(int64_t a, int64_t b) {
  int64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? kMaxBytes : product;
}

int64_t SaturatingAdd(int64_t a, int64_t b) { return a > kMaxBytes - b ? kMaxBytes : a + b; }

struct StageNeed {
  int stage = 0;
  int64_t weight_bytes = 0;
  int64_t activation_bytes = 0;
  int64_t block_bytes = 0;

  int64_t FixedBytes() const { return weight_bytes + activation_bytes; }
  int64_t BlocksWithin(int64_t usable) const {
    return std::max<int64_t>(0, usable - FixedBytes()) / block_bytes;
  }
};

std::vector<StageNeed> NeedOfStages(const DecoderSpec& spec, const PlanRequest& request) {
  std::vector<StageNeed> needs;
  for (int stage = 0; stage < request.pp_size; ++stage) {
    RankShard shard = MakeShard(spec, request.tp_size, request.pp_size, 0, stage);
    needs.push_back({stage, WeightBytes(spec, shard, request.dtype),
                     ActivationBytes(spec, shard, request.batch_tokens),
                     KvBytesPerBlock(spec, shard, request.dtype)});
  }
  return needs;
}

int64_t UsableBytes(const PlanRequest& request) {
  return static_cast<int64_t>(static_cast<double>(*request.device_memory_bytes) *
                              request.memory_fraction);
}

/// What the fullest rank has room for.
int64_t BlocksThatFit(const DecoderSpec& spec, const PlanRequest& request) {
  int64_t blocks = kMaxBytes;
  for (const StageNeed& need : NeedOfStages(spec, request)) {
    blocks = std::min(blocks, need.BlocksWithin(UsableBytes(request)));
  }
  return blocks;
}

/// The legal division with the fewest devices, more than asked for, that has room; of two with the
/// same number the one with the larger TP, which answers faster.
std::optional<PlanRequest> NextPlanThatFits(const DecoderSpec& spec, const PlanRequest& request) {
  int64_t asked = int64_t{request.tp_size} * request.pp_size;
  std::vector<PlanRequest> candidates;
  for (int tp_size : LegalTpSizes(spec, request)) {
    int64_t most = std::min<int64_t>(spec.num_layers, asked * kMaxGrowth / tp_size);
    for (int64_t pp_size = asked / tp_size + 1; pp_size <= most; ++pp_size) {
      candidates.push_back(request);
      candidates.back().tp_size = tp_size;
      candidates.back().pp_size = static_cast<int>(pp_size);
    }
  }
  auto devices = [](const PlanRequest& plan) { return int64_t{plan.tp_size} * plan.pp_size; };
  std::sort(candidates.begin(), candidates.end(), [&](const auto& a, const auto& b) {
    return devices(a) != devices(b) ? devices(a) < devices(b) : a.tp_size > b.tp_size;
  });
  for (const PlanRequest& plan : candidates) {
    if (BlocksThatFit(spec, plan) >= BlocksWanted(spec, plan)) return plan;
  }
  return std::nullopt;
}

/// "--context up to 4096, or --tp 4 --pp 2".
std::string WhatWouldFit(const DecoderSpec& spec, const PlanRequest& request) {
  std::vector<std::string> ways;
  int64_t blocks = BlocksThatFit(spec, request);
  if (int64_t tokens = blocks / request.concurrency * kPlanBlockTokens; tokens > 0) {
    ways.push_back(absl::StrCat("--context up to ", tokens));
  }
  PlanRequest one = request;
  one.concurrency = 1;
  if (int64_t sequences = blocks / BlocksWanted(spec, one); sequences > 0) {
    ways.push_back(absl::StrCat("--concurrency up to ", sequences));
  }
  if (std::optional<PlanRequest> larger = NextPlanThatFits(spec, request)) {
    ways.push_back(absl::StrCat("--tp ", larger->tp_size, " --pp ", larger->pp_size));
  }
  if (ways.empty()) return "nothing legal would fit";
  return absl::StrCat("would fit: ", absl::StrJoin(ways, ", or "));
}

absl::Status TooLittleMemory(const DecoderSpec& spec, const PlanRequest& request) {
  int64_t wanted = BlocksWanted(spec, request);
  auto total = [wanted](const StageNeed& need) {
    return SaturatingAdd(need.FixedBytes(), SaturatingMultiply(wanted, need.block_bytes));
  };
  std::vector<StageNeed> needs = NeedOfStages(spec, request);
  const StageNeed& worst = *std::max_element(
      needs.begin(), needs.end(),
      [&](const StageNeed& a, const StageNeed& b) { return total(a) < total(b); });
  return absl::FailedPreconditionError(absl::StrCat(
      "TP ", request.tp_size, " x PP ", request.pp_size, " needs ", FormatBytes(total(worst)),
      " on rank ", worst.stage * request.tp_size, " (stage ", worst.stage, "): weights ",
      FormatBytes(worst.weight_bytes), " + KV cache ",
      FormatBytes(SaturatingMultiply(wanted, worst.block_bytes)), " (", request.concurrency, " x ",
      ResolvedContext(spec, request), " tokens) + activations ",
      FormatBytes(worst.activation_bytes), ", but ", absl::StrFormat("%g", request.memory_fraction),
      " of the device's ", FormatBytes(*request.device_memory_bytes), " is ",
      FormatBytes(UsableBytes(request)), "; ", WhatWouldFit(spec, request)));
}

}  // namespace

int64_t ResolvedContext(const DecoderSpec& spec, const PlanRequest& request) {
  return request.context_tokens > 0 ? request.context_tokens : spec.max_position;
}

int64_t BlocksWanted(const DecoderSpec& spec, const PlanRequest& request) {
  int64_t context = ResolvedContext(spec, request);
  return request.concurrency * ((context + kPlanBlockTokens - 1) / kPlanBlockTokens);
}

int64_t KvBytesPerBlock(const DecoderSpec& spec, const RankShard& shard, DType dtype) {
  return kPlanBlockTokens * KvBytesPerToken(spec, shard, dtype);
}

absl::StatusOr<int64_t> PlanBlocks(const DecoderSpec& spec, const PlanRequest& request) {
  int64_t wanted = BlocksWanted(spec, request);
  if (request.device_memory_bytes.has_value()) {
    int64_t blocks = BlocksThatFit(spec, request);
    if (blocks < wanted) return TooLittleMemory(spec, request);
    return blocks;
  }
  for (const StageNeed& need : NeedOfStages(spec, request)) {
    int64_t kv_bytes = SaturatingMultiply(wanted, need.block_bytes);
    if (SaturatingAdd(need.FixedBytes(), kv_bytes) == kMaxBytes) {
      return absl::FailedPreconditionError(absl::StrCat(
          "--concurrency ", request.concurrency, " of ", ResolvedContext(spec, request),
          " tokens needs more memory than 64 bits can count; lower it or --context"));
    }
  }
  return wanted;
}

}  // namespace lockstep::model
