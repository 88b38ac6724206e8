// Events find their replica by the epoch that they name; members are everybody's.
#include "coordinator/cluster/formation.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/version.h"

namespace lockstep::coordinator {
namespace {

/// Smaller is better.
int OrderOf(v1::ClusterState state) {
  switch (state) {
    case v1::CLUSTER_STATE_SERVING:
      return 0;
    case v1::CLUSTER_STATE_FORMING:
      return 1;
    case v1::CLUSTER_STATE_WAITING:
      return 2;
    default:
      return 3;
  }
}

void Append(Commands from, Commands& to) {
  std::move(from.begin(), from.end(), std::back_inserter(to));
}

}  // namespace

Formation::Formation(ClusterConfig config) : config_(std::move(config)) {
  for (int replica = 0; replica < config_.replicas; ++replica) {
    replicas_.push_back(std::make_unique<ReplicaFormation>(config_, replica, &membership_));
  }
}

Commands Formation::WorkerRegistered(MemberId id, WorkerInfo worker, absl::Time now) {
  membership_.Add(id, std::move(worker), now);
  v1::JoinResponse welcome;
  welcome.mutable_welcome()->set_coordinator_version(kVersion);
  Commands commands;
  commands.push_back(SendToWorker{id, std::move(welcome)});
  Append(Collect([&](ReplicaFormation& replica) { return replica.WorkersChanged(now); }), commands);
  return commands;
}

Commands Formation::WorkerLeft(MemberId id, const absl::Status& reason, absl::Time now) {
  if (!membership_.Remove(id)) return {};
  Commands commands =
      Collect([&](ReplicaFormation& replica) { return replica.RankLeft(id, reason, now); });
  Append(Collect([&](ReplicaFormation& replica) { return replica.WorkersChanged(now); }), commands);
  return commands;
}

Commands Formation::AddressesTold(MemberId id, const v1::CollectiveAddresses& addresses,
                                  absl::Time now) {
  ReplicaFormation* replica = Find(addresses.epoch());
  return replica == nullptr ? Commands() : replica->AddressesTold(id, addresses, now);
}

void Formation::LoadProgressed(MemberId id, const v1::LoadProgress& progress, absl::Time now) {
  if (ReplicaFormation* replica = Find(progress.epoch()))
    replica->LoadProgressed(id, progress, now);
}

void Formation::HeartbeatCame(MemberId id, const v1::Progress& progress, absl::Time now) {
  membership_.Heartbeat(id, progress, now);
  if (ReplicaFormation* replica = Find(progress.epoch())) replica->HeartbeatCame(id, progress, now);
}

Commands Formation::RankReady(MemberId id, const v1::Ready& ready, absl::Time now) {
  ReplicaFormation* replica = Find(ready.epoch());
  return replica == nullptr ? Commands() : replica->RankReady(id, ready, now);
}

Commands Formation::RankFailed(MemberId id, const v1::EpochFailed& failure, absl::Time now) {
  ReplicaFormation* replica = Find(failure.epoch());
  return replica == nullptr ? Commands() : replica->RankFailed(id, failure, now);
}

absl::StatusOr<Commands> Formation::StreamOpened(const v1::ExecuteHello& hello, absl::Time now) {
  ReplicaFormation* replica = Find(hello.epoch());
  if (replica != nullptr) return replica->StreamOpened(hello, now);
  std::string standing;
  for (const auto& other : replicas_) {
    if (other->epoch() == nullptr) continue;
    absl::StrAppend(&standing, standing.empty() ? "" : ", ", other->epoch()->Describe());
  }
  return absl::FailedPreconditionError(
      absl::StrCat("epoch ", hello.epoch(), " takes no Execute streams; ",
                   standing.empty() ? "no epoch stands" : standing));
}

Commands Formation::StreamClosed(uint64_t epoch, uint32_t rank, const absl::Status& reason,
                                 absl::Time now) {
  ReplicaFormation* replica = Find(epoch);
  return replica == nullptr ? Commands() : replica->StreamClosed(rank, reason, now);
}

Commands Formation::StepsFailed(uint64_t epoch, const absl::Status& reason, absl::Time now) {
  ReplicaFormation* replica = Find(epoch);
  return replica == nullptr ? Commands() : replica->StepsFailed(reason, now);
}

Commands Formation::Shutdown(const std::string& reason) {
  Commands commands = Collect([&](ReplicaFormation& replica) { return replica.Shutdown(reason); });
  for (MemberId id : membership_.Ids()) {
    v1::JoinResponse message;
    message.mutable_shutdown()->set_reason(reason);
    commands.push_back(SendToWorker{id, std::move(message)});
  }
  return commands;
}

std::optional<absl::Time> Formation::NextDeadline() const {
  std::optional<absl::Time> next;
  for (const auto& replica : replicas_) {
    const std::optional<absl::Time> deadline = replica->NextDeadline();
    if (deadline && (!next || *deadline < *next)) next = deadline;
  }
  return next;
}

Commands Formation::TimePassed(absl::Time now) {
  return Collect([&](ReplicaFormation& replica) { return replica.TimePassed(now); });
}

v1::ClusterState Formation::state() const {
  v1::ClusterState best = replicas_[0]->state();
  for (const auto& replica : replicas_) {
    if (OrderOf(replica->state()) < OrderOf(best)) best = replica->state();
  }
  return best;
}

std::string Formation::detail() const {
  if (replicas_.size() == 1) return replicas_[0]->detail();
  std::string all;
  for (size_t i = 0; i < replicas_.size(); ++i) {
    const std::string detail = replicas_[i]->detail();
    if (detail.empty()) continue;
    absl::StrAppend(&all, all.empty() ? "" : "; ", "replica ", i, ": ", detail);
  }
  return all;
}

std::optional<int> Formation::ReplicaOf(uint64_t epoch) const {
  for (size_t i = 0; i < replicas_.size(); ++i) {
    const Epoch* standing = replicas_[i]->epoch();
    if (standing != nullptr && standing->number() == epoch) return static_cast<int>(i);
  }
  return std::nullopt;
}

ReplicaFormation* Formation::Find(uint64_t epoch) {
  const std::optional<int> replica = ReplicaOf(epoch);
  return replica ? replicas_[*replica].get() : nullptr;
}

Commands Formation::Collect(const std::function<Commands(ReplicaFormation&)>& event) {
  Commands commands;
  for (const auto& replica : replicas_) Append(event(*replica), commands);
  return commands;
}

}  // namespace lockstep::coordinator
