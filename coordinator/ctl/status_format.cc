// Tables and JSON of the cluster's state; see status_format.h.
#include "coordinator/ctl/status_format.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/units.h"
#include "coordinator/plan/text_table.h"
#include "nlohmann/json.hpp"

namespace lockstep::coordinator {
namespace {

constexpr uint64_t kSilentAfterUs = 2'000'000;

std::string FormatAge(uint64_t age_us) {
  if (age_us < 1'000'000) return absl::StrFormat("%d ms", age_us / 1000);
  return absl::StrFormat("%.1f s", static_cast<double>(age_us) * 1e-6);
}

/// "tp shm, pp tcp": the transports of the rank's groups, each once.
std::string Collectives(const v1::WorkerStatus& worker) {
  std::vector<std::string> parts;
  for (const v1::CollectiveGroup& group : worker.groups()) {
    if (group.purpose() == v1::CollectiveGroup::PURPOSE_TOKENS) continue;
    const char* purpose = "pp";
    if (group.purpose() == v1::CollectiveGroup::PURPOSE_TENSOR) purpose = "tp";
    const char* transport = "solo";
    if (group.transport() == v1::TRANSPORT_SHM) transport = "shm";
    if (group.transport() == v1::TRANSPORT_TCP) transport = "tcp";
    parts.push_back(absl::StrCat(purpose, " ", transport));
  }
  return absl::StrJoin(parts, ", ");
}

std::vector<std::string> WorkerRow(const v1::WorkerStatus& worker) {
  bool ranked = worker.has_rank();
  bool stepped = worker.last_step_ns() > 0;
  return {
      ranked ? absl::StrCat(worker.replica()) : "-",
      ranked ? absl::StrCat(worker.rank()) : "-",
      worker.node(),
      worker.device(),
      absl::StrCat(worker.pid()),
      WorkerState(worker),
      ranked ? absl::StrCat(worker.pp_stage()) : "-",
      ranked ? absl::StrCat(worker.tp_rank()) : "-",
      ranked ? absl::StrFormat("%d-%d", worker.layer_begin(), worker.layer_end() - 1) : "-",
      FormatBytes(static_cast<int64_t>(worker.weight_bytes())),
      FormatBytes(static_cast<int64_t>(worker.kv_bytes())),
      FormatBytes(static_cast<int64_t>(worker.progress().resident_bytes())),
      stepped ? absl::StrFormat("%.2f ms", static_cast<double>(worker.last_step_ns()) * 1e-6) : "-",
      stepped ? absl::StrFormat("%.2f ms", static_cast<double>(worker.last_wait_ns()) * 1e-6) : "-",
      stepped ? FormatAge(worker.last_step_age_us()) : "-",
      Collectives(worker),
  };
}

nlohmann::json ReplicaJson(const v1::ReplicaStatus& replica) {
  return {
      {"replica", replica.replica()},
      {"state", StateName(replica.state())},
      {"detail", replica.detail()},
      {"epoch", replica.epoch()},
      {"kv_blocks", replica.kv_blocks()},
      {"kv_blocks_used", replica.kv_blocks_used()},
      {"kv_blocks_cached", replica.kv_blocks_cached()},
      {"running_requests", replica.running_requests()},
      {"waiting_requests", replica.waiting_requests()},
      {"finished_requests", replica.finished_requests()},
      {"generated_tokens", replica.generated_tokens()},
      {"preemptions", replica.preemptions()},
      {"prompt_tokens", replica.prompt_tokens()},
      {"cached_tokens", replica.cached_tokens()},
  };
}

/// One line for each, where there are several.
std::string FormatReplicas(const v1::GetTopologyResponse& topology) {
  std::string text;
  if (topology.replicas_size() < 2) return text;
  for (const v1::ReplicaStatus& replica : topology.replicas()) {
    absl::StrAppendFormat(
        &text,
        "replica %d: %s   epoch %d   requests: %d running, %d waiting   KV blocks: %d of %d\n",
        replica.replica(), std::string(StateName(replica.state())), replica.epoch(),
        replica.running_requests(), replica.waiting_requests(), replica.kv_blocks_used(),
        replica.kv_blocks());
  }
  return text;
}

nlohmann::json WorkerJson(const v1::WorkerStatus& worker) {
  nlohmann::json json = {
      {"worker_id", worker.worker_id()},
      {"node", worker.node()},
      {"device", worker.device()},
      {"pid", worker.pid()},
      {"state", WorkerState(worker)},
      {"weight_bytes", worker.weight_bytes()},
      {"kv_bytes", worker.kv_bytes()},
      {"resident_bytes", worker.progress().resident_bytes()},
      {"loaded_bytes", worker.loaded_bytes()},
      {"total_bytes", worker.total_bytes()},
      {"load_us", worker.load_us()},
      {"step", worker.progress().step_id()},
      {"progress_age_us", worker.progress().age_us()},
      {"last_step_ns", worker.last_step_ns()},
      {"last_wait_ns", worker.last_wait_ns()},
      {"steps", worker.steps()},
      {"total_step_ns", worker.total_step_ns()},
      {"total_wait_ns", worker.total_wait_ns()},
      {"total_gap_ns", worker.total_gap_ns()},
      {"median_gap_ns", worker.median_gap_ns()},
      {"last_step_age_us", worker.last_step_age_us()},
      {"heartbeat_age_us", worker.heartbeat_age_us()},
      {"collectives", Collectives(worker)},
  };
  if (worker.has_rank()) {
    json["replica"] = worker.replica();
    json["rank"] = worker.rank();
    json["tp_rank"] = worker.tp_rank();
    json["pp_stage"] = worker.pp_stage();
    json["layers"] = {worker.layer_begin(), worker.layer_end()};
  }
  return json;
}

}  // namespace

std::string_view StateName(v1::ClusterState state) {
  switch (state) {
    case v1::CLUSTER_STATE_WAITING:
      return "waiting";
    case v1::CLUSTER_STATE_FORMING:
      return "forming";
    case v1::CLUSTER_STATE_SERVING:
      return "serving";
    case v1::CLUSTER_STATE_FAILED:
      return "failed";
    default:
      return "unknown";
  }
}

std::string WorkerState(const v1::WorkerStatus& worker) {
  if (worker.heartbeat_age_us() > kSilentAfterUs) return "silent";
  if (!worker.has_rank()) return "spare";
  switch (worker.progress().phase()) {
    case v1::PHASE_IDLE:
      return "idle";
    case v1::PHASE_LOADING:
      return "loading";
    case v1::PHASE_CONNECTING:
      return "connecting";
    case v1::PHASE_COMPUTING:
      return "computing";
    case v1::PHASE_WAITING_FOR_PEER:
      return "waiting-for-peer";
    default:
      return "joining";
  }
}

std::string FormatStatus(const v1::GetTopologyResponse& topology) {
  std::string text =
      absl::StrFormat("%s   epoch %d   model %s (%s, %s)   TP %d x PP %d   context %d\n",
                      std::string(StateName(topology.state())), topology.epoch(), topology.model(),
                      topology.architecture(), topology.dtype(), topology.tp_size(),
                      topology.pp_size(), topology.context_tokens());
  if (!topology.detail().empty()) absl::StrAppend(&text, topology.detail(), "\n");
  absl::StrAppendFormat(&text, "requests: %d running, %d waiting   KV blocks: %d of %d in use\n",
                        topology.running_requests(), topology.waiting_requests(),
                        topology.kv_blocks_used(), topology.kv_blocks());
  absl::StrAppend(&text, FormatReplicas(topology), "\n");
  std::vector<std::vector<std::string>> rows = {{"REPLICA", "RANK", "NODE", "DEVICE", "PID",
                                                 "STATE", "STAGE", "TP", "LAYERS", "WEIGHTS", "KV",
                                                 "RESIDENT", "STEP", "WAIT", "AGE", "COLLECTIVE"}};
  for (const v1::WorkerStatus& worker : topology.workers()) rows.push_back(WorkerRow(worker));
  return text + FormatTextTable(rows);
}

std::string FormatStatusJson(const v1::GetTopologyResponse& topology) {
  nlohmann::json json = {
      {"state", StateName(topology.state())},
      {"detail", topology.detail()},
      {"epoch", topology.epoch()},
      {"model", topology.model()},
      {"architecture", topology.architecture()},
      {"dtype", topology.dtype()},
      {"tp_size", topology.tp_size()},
      {"pp_size", topology.pp_size()},
      {"context_tokens", topology.context_tokens()},
      {"kv_blocks", topology.kv_blocks()},
      {"kv_blocks_used", topology.kv_blocks_used()},
      {"running_requests", topology.running_requests()},
      {"waiting_requests", topology.waiting_requests()},
      {"replicas", nlohmann::json::array()},
      {"workers", nlohmann::json::array()},
  };
  for (const v1::ReplicaStatus& replica : topology.replicas()) {
    json["replicas"].push_back(ReplicaJson(replica));
  }
  for (const v1::WorkerStatus& worker : topology.workers()) {
    json["workers"].push_back(WorkerJson(worker));
  }
  // Node names come from operators; what is not UTF-8 must not end the program.
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::string FormatProgressLine(const v1::GetTopologyResponse& topology) {
  std::string line(StateName(topology.state()));
  if (!topology.detail().empty()) absl::StrAppend(&line, ": ", topology.detail());
  for (const v1::WorkerStatus& worker : topology.workers()) {
    if (!worker.has_rank() || worker.total_bytes() == 0) continue;
    absl::StrAppendFormat(&line, "  rank %d %d%%", worker.rank(),
                          100 * worker.loaded_bytes() / worker.total_bytes());
  }
  return line;
}

}  // namespace lockstep::coordinator
