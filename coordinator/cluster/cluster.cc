// Events in, commands out, all under one mutex but for the steps.
#include "coordinator/cluster/cluster.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "coordinator/cluster/topology.h"

namespace lockstep::coordinator {
namespace {

template <class... Cases>
struct Overload : Cases... {
  using Cases::operator()...;
};
template <class... Cases>
Overload(Cases...) -> Overload<Cases...>;

}  // namespace

Cluster::Cluster(ClusterConfig config, std::vector<GroupObserver*> observers,
                 std::function<void(bool serving)> on_serving)
    : observers_(std::move(observers)),
      on_serving_(std::move(on_serving)),
      formation_(std::move(config)),
      groups_(observers_.size()),
      timer_([this] { WatchTime(); }) {}

Cluster::~Cluster() {
  {
    absl::MutexLock lock(&mutex_);
    ending_ = true;
    changed_.SignalAll();
  }
  timer_.join();
}

absl::StatusOr<MemberId> Cluster::Register(const v1::Register& message,
                                           std::shared_ptr<ControlLink> link) {
  LOCKSTEP_ASSIGN_OR_RETURN(WorkerInfo worker, CheckRegister(message));
  absl::MutexLock lock(&mutex_);
  if (shut_down_) return absl::UnavailableError("the coordinator is shutting down");
  const absl::Time now = absl::Now();
  for (const auto& [id, member] : formation_.membership().members()) {
    if (member.info.worker_id != worker.worker_id) continue;
    absl::Status replaced = absl::AbortedError("the worker has registered again");
    auto old = links_.extract(id);
    Execute(formation_.WorkerLeft(old.key(), replaced, now));
    old.mapped()->Close(replaced);
    break;
  }
  const MemberId id{next_member_++};
  links_[id] = std::move(link);
  LOG(INFO) << "worker " << worker.worker_id << " has registered: " << worker.device << " on node "
            << worker.node << ", pid " << worker.pid;
  Execute(formation_.WorkerRegistered(id, std::move(worker), now));
  return id;
}

absl::Status Cluster::Handle(MemberId id, const v1::JoinRequest& message) {
  const absl::Time now = absl::Now();
  absl::MutexLock lock(&mutex_);
  switch (message.message_case()) {
    case v1::JoinRequest::kHeartbeat:
      formation_.HeartbeatCame(id, message.heartbeat().progress(), now);
      return absl::OkStatus();
    case v1::JoinRequest::kLoadProgress:
      formation_.LoadProgressed(id, message.load_progress(), now);
      return absl::OkStatus();
    case v1::JoinRequest::kAddresses:
      Execute(formation_.AddressesTold(id, message.addresses(), now));
      return absl::OkStatus();
    case v1::JoinRequest::kReady:
      Execute(formation_.RankReady(id, message.ready(), now));
      return absl::OkStatus();
    case v1::JoinRequest::kEpochFailed:
      Execute(formation_.RankFailed(id, message.epoch_failed(), now));
      return absl::OkStatus();
    case v1::JoinRequest::kRegister:
      return absl::InvalidArgumentError("register may only be a Join stream's first message");
    case v1::JoinRequest::MESSAGE_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("a message on the Join stream is empty or unknown");
}

void Cluster::Leave(MemberId id, const absl::Status& reason) {
  absl::MutexLock lock(&mutex_);
  // Not there any more if it was replaced.
  if (links_.erase(id) == 0) return;
  const Member* member = formation_.membership().Find(id);
  LOG(INFO) << "worker " << member->info.worker_id << " has left: " << reason.message();
  Execute(formation_.WorkerLeft(id, reason, absl::Now()));
}

absl::StatusOr<std::shared_ptr<StreamedRankGroup>> Cluster::OpenStream(
    const v1::ExecuteHello& hello, std::shared_ptr<BatchLink> link) {
  absl::MutexLock lock(&mutex_);
  LOCKSTEP_ASSIGN_OR_RETURN(Commands commands, formation_.StreamOpened(hello, absl::Now()));
  const int replica = *formation_.ReplicaOf(hello.epoch());
  std::shared_ptr<StreamedRankGroup> group = groups_[replica];
  if (group == nullptr) {
    group = std::make_shared<StreamedRankGroup>(
        formation_.replica(replica).epoch()->limits(), formation_.config().plan.request.tp_size,
        observers_[replica],
        [this](uint64_t epoch, const absl::Status& reason) { StepsFailed(epoch, reason); });
    groups_[replica] = group;
  }
  group->AddStream(hello.rank(), std::move(link));
  Execute(commands);
  return group;
}

void Cluster::StreamEnded(uint64_t epoch, uint32_t rank, const absl::Status& reason) {
  absl::MutexLock lock(&mutex_);
  Execute(formation_.StreamClosed(epoch, rank, reason, absl::Now()));
}

void Cluster::StepsFailed(uint64_t epoch, const absl::Status& reason) {
  absl::MutexLock lock(&mutex_);
  Execute(formation_.StepsFailed(epoch, reason, absl::Now()));
}

void Cluster::Shutdown(const std::string& reason) {
  absl::MutexLock lock(&mutex_);
  shut_down_ = true;
  Execute(formation_.Shutdown(reason));
}

v1::GetTopologyResponse Cluster::Topology() const {
  absl::MutexLock lock(&mutex_);
  std::vector<std::vector<RankStepTimes>> times;
  for (const std::shared_ptr<StreamedRankGroup>& group : groups_) {
    times.push_back(group == nullptr ? std::vector<RankStepTimes>() : group->Times());
  }
  return MakeTopology(formation_, times, absl::Now());
}

void Cluster::Execute(const Commands& commands) {
  for (const Command& command : commands) {
    std::visit(Overload{
                   [&](const SendToWorker& send) {
                     mutex_.AssertHeld();
                     auto link = links_.find(send.to);
                     if (link != links_.end()) link->second->Send(send.message);
                   },
                   [&](const EpochServing& serving) {
                     mutex_.AssertHeld();
                     Serve(serving);
                   },
                   [&](const EpochEnded& ended) {
                     mutex_.AssertHeld();
                     End(ended);
                   },
               },
               command);
  }
  changed_.SignalAll();
}

void Cluster::Serve(const EpochServing& serving) {
  LOG(INFO) << "epoch " << serving.limits.epoch << " of replica " << serving.replica
            << " serves with " << serving.limits.kv_blocks << " KV blocks";
  groups_[serving.replica]->Announce();
  if (++serving_ == 1 && on_serving_) on_serving_(true);
}

void Cluster::End(const EpochEnded& ended) {
  LOG(WARNING) << "epoch " << ended.epoch << " of replica " << ended.replica
               << " has ended: " << ended.reason;
  const std::shared_ptr<StreamedRankGroup> group = std::move(groups_[ended.replica]);
  if (group != nullptr) group->Close(ended.reason);
  if (!ended.served) return;
  observers_[ended.replica]->OnGroupLost(ended.epoch, ended.reason);
  if (--serving_ == 0 && on_serving_) on_serving_(false);
}

void Cluster::WatchTime() {
  absl::MutexLock lock(&mutex_);
  while (!ending_) {
    Execute(formation_.TimePassed(absl::Now()));
    changed_.WaitWithDeadline(&mutex_, formation_.NextDeadline().value_or(absl::InfiniteFuture()));
  }
}

}  // namespace lockstep::coordinator
