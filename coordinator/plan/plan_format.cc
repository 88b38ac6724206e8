// Table and JSON of a plan.
#include "coordinator/plan/plan_format.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/units.h"
#include "coordinator/plan/text_table.h"

namespace lockstep::coordinator {
namespace {

using Json = nlohmann::ordered_json;
using model::DecoderSpec;
using model::ParallelPlan;
using model::PlanRequest;
using model::Range;
using model::RankPlan;

constexpr int kIndent = 2;

std::string Inclusive(Range range) {
  if (range.size() == 1) return absl::StrCat(range.begin);
  return absl::StrCat(range.begin, "-", range.end - 1);
}

/// Which ends of the model a stage holds besides its layers.
std::string Ends(const model::RankShard& shard) {
  if (shard.has_embedding && shard.has_head) return "embedding, head";
  if (shard.has_embedding) return "embedding";
  return shard.has_head ? "head" : "-";
}

std::string ModelLine(const DecoderSpec& spec) {
  return absl::StrFormat(
      "%s: %d layers, %d heads of %d, %d KV heads, hidden %d, FFN %d, vocabulary %d%s\n",
      spec.architecture, spec.num_layers, spec.attention.num_heads, spec.attention.head_dim,
      spec.attention.kv_heads, spec.hidden_size, spec.mlp.intermediate_size, spec.vocab_size,
      spec.tie_embeddings ? " (tied)" : "");
}

std::string DivisionLine(const ParallelPlan& plan) {
  const PlanRequest& request = plan.request;
  std::string line = absl::StrFormat("TP %d x PP %d: %d ranks", request.tp_size, request.pp_size,
                                     plan.ranks.size());
  if (request.devices_per_node > 0) {
    absl::StrAppendFormat(&line, " on %d nodes of %d devices", plan.num_nodes,
                          request.devices_per_node);
  }
  absl::StrAppend(&line, ", ", std::string(Name(request.dtype)));
  if (request.device_memory_bytes.has_value()) {
    absl::StrAppendFormat(&line, ", %s a device of which %g is used",
                          FormatBytes(*request.device_memory_bytes), request.memory_fraction);
  }
  return line + "\n";
}

std::string CacheLine(const ParallelPlan& plan) {
  int64_t tokens = plan.kv_blocks * model::kPlanBlockTokens;
  int64_t sequence_blocks = plan.blocks_wanted / plan.request.concurrency;
  return absl::StrFormat(
      "KV cache: %d blocks of %d tokens = %d tokens, room for %d x %d tokens (asked for %d)\n",
      plan.kv_blocks, model::kPlanBlockTokens, tokens, plan.kv_blocks / sequence_blocks,
      plan.context_tokens, plan.request.concurrency);
}

std::vector<std::string> Row(const RankPlan& rank) {
  const model::RankShard& shard = rank.shard;
  return {absl::StrCat(rank.rank),
          absl::StrCat(rank.node),
          absl::StrCat(shard.pp_stage),
          Inclusive(shard.layers),
          absl::StrCat(shard.tp_rank),
          Inclusive(shard.heads),
          Inclusive(shard.kv_heads),
          Inclusive(shard.ffn),
          Ends(shard),
          FormatBytes(rank.weight_bytes),
          FormatBytes(rank.kv_bytes),
          FormatBytes(rank.activation_bytes),
          FormatBytes(rank.total_bytes()),
          absl::StrCat(rank.kv_blocks)};
}

Json Pair(Range range) { return Json::array({range.begin, range.end}); }

Json RankJson(const RankPlan& rank) {
  const model::RankShard& shard = rank.shard;
  return {{"rank", rank.rank},
          {"node", rank.node},
          {"pp_stage", shard.pp_stage},
          {"tp_rank", shard.tp_rank},
          {"layers", Pair(shard.layers)},
          {"heads", Pair(shard.heads)},
          {"kv_heads", Pair(shard.kv_heads)},
          {"ffn_columns", Pair(shard.ffn)},
          {"vocabulary", Pair(shard.vocab)},
          {"has_embedding", shard.has_embedding},
          {"has_head", shard.has_head},
          {"weight_bytes", rank.weight_bytes},
          {"kv_bytes_per_token", rank.kv_bytes_per_token},
          {"kv_blocks", rank.kv_blocks},
          {"kv_bytes", rank.kv_bytes},
          {"activation_bytes", rank.activation_bytes},
          {"total_bytes", rank.total_bytes()}};
}

Json ModelJson(const DecoderSpec& spec) {
  return {{"architecture", spec.architecture},      {"layers", spec.num_layers},
          {"heads", spec.attention.num_heads},      {"kv_heads", spec.attention.kv_heads},
          {"head_dim", spec.attention.head_dim},    {"hidden_size", spec.hidden_size},
          {"ffn_size", spec.mlp.intermediate_size}, {"vocabulary", spec.vocab_size},
          {"tied_embeddings", spec.tie_embeddings}};
}

std::string Dump(const Json& json) {
  return json.dump(kIndent, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string FormatPlan(const DecoderSpec& spec, const ParallelPlan& plan) {
  std::vector<std::vector<std::string>> rows = {{"RANK", "NODE", "STAGE", "LAYERS", "TP", "HEADS",
                                                 "KV HEADS", "FFN COLUMNS", "ENDS", "WEIGHTS",
                                                 "KV CACHE", "ACTIVATIONS", "TOTAL", "BLOCKS"}};
  for (const RankPlan& rank : plan.ranks) rows.push_back(Row(rank));
  return absl::StrCat(ModelLine(spec), DivisionLine(plan), "\n", FormatTextTable(rows), "\n",
                      CacheLine(plan));
}

std::string FormatPlanJson(const DecoderSpec& spec, const ParallelPlan& plan) {
  const PlanRequest& request = plan.request;
  Json json = {{"model", ModelJson(spec)},
               {"tp_size", request.tp_size},
               {"pp_size", request.pp_size},
               {"num_nodes", plan.num_nodes},
               {"dtype", std::string(Name(request.dtype))},
               {"context_tokens", plan.context_tokens},
               {"concurrency", request.concurrency},
               {"block_tokens", model::kPlanBlockTokens},
               {"blocks_wanted", plan.blocks_wanted},
               {"kv_blocks", plan.kv_blocks},
               {"ranks", Json::array()}};
  if (request.device_memory_bytes.has_value()) {
    json["device_memory_bytes"] = *request.device_memory_bytes;
    json["memory_fraction"] = request.memory_fraction;
  }
  for (const RankPlan& rank : plan.ranks) json["ranks"].push_back(RankJson(rank));
  return Dump(json);
}

std::string FormatRefusalJson(const DecoderSpec& spec, const PlanRequest& request,
                              const absl::Status& refusal) {
  return Dump({{"refused", std::string(refusal.message())},
               {"legal_tp_sizes", model::LegalTpSizes(spec, request)},
               {"legal_pp_sizes", model::LegalPpSizes(spec)}});
}

}  // namespace lockstep::coordinator
