// How `coordinatorctl status` and `up` show a cluster: pure functions of the coordinator's answer.
#ifndef LOCKSTEP_COORDINATOR_CTL_STATUS_FORMAT_H_
#define LOCKSTEP_COORDINATOR_CTL_STATUS_FORMAT_H_

#include <string>
#include <string_view>

#include "proto/lockstep/v1/admin.pb.h"

namespace lockstep::coordinator {

/// "serving", "forming", "waiting" or "failed".
std::string_view StateName(v1::ClusterState state);

/// What a worker is doing in one word: "idle", "loading", "connecting", "computing",
/// "waiting-for-peer", "spare" (no rank) or "silent" (no heartbeat for 2 s).
std::string WorkerState(const v1::WorkerStatus& worker);

/// The whole cluster as lines for a person, the last one ended.
std::string FormatStatus(const v1::GetTopologyResponse& topology);

/// The same as one JSON object with stable keys, for programs.
std::string FormatStatusJson(const v1::GetTopologyResponse& topology);

/// One line on a cluster that is not serving yet: state, detail and the load of each rank in per
/// cent.
std::string FormatProgressLine(const v1::GetTopologyResponse& topology);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CTL_STATUS_FORMAT_H_
