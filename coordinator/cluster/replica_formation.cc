// The transitions; the drawing is in replica_formation.h.
#include "coordinator/cluster/replica_formation.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/cluster/kv_capacity.h"
#include "coordinator/cluster/placement.h"

namespace lockstep::coordinator {
namespace {

/// Whether trying again with the same workers can help; the list is EpochFailed's in cluster.proto.
bool IsPermanent(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kFailedPrecondition:
      return true;
    default:
      return false;
  }
}

}  // namespace

ReplicaFormation::ReplicaFormation(const ClusterConfig& config, int replica, Membership* membership)
    : config_(config), replica_(replica), membership_(membership) {
  TryToForm(absl::InfinitePast());
}

Commands ReplicaFormation::WorkersChanged(absl::Time now) {
  if (phase_ == Phase::kFailed) {
    phase_ = Phase::kWaiting;
    failures_in_a_row_ = 0;
  }
  if (phase_ == Phase::kWaiting) TryToForm(now);
  return Take();
}

Commands ReplicaFormation::RankLeft(MemberId id, const absl::Status& reason, absl::Time now) {
  if (RankState* rank = epoch_ ? epoch_->RankOf(id) : nullptr) {
    // Whatever code the stream ended with, losing a worker is no verdict on the plan.
    EndEpoch(
        absl::UnavailableError(absl::StrCat(DescribeRank(*rank), " has left: ", reason.message())),
        now);
  }
  return Take();
}

Commands ReplicaFormation::AddressesTold(MemberId id, const v1::CollectiveAddresses& addresses,
                                         absl::Time now) {
  RankState* rank = CurrentRank(id, addresses.epoch());
  if (rank == nullptr || phase_ != Phase::kConnecting) return {};
  if (absl::Status status = epoch_->TakeAddresses(*rank, addresses); !status.ok()) {
    EndEpoch(status, now);
  } else if (epoch_->HasAllAddresses()) {
    phase_ = Phase::kLoading;
    moved_at_ = now;
    for (size_t i = 0; i < epoch_->ranks().size(); ++i) {
      v1::JoinResponse message;
      *message.mutable_peers() = epoch_->PeersOf(i);
      Send(epoch_->ranks()[i].member, std::move(message));
    }
  }
  return Take();
}

void ReplicaFormation::LoadProgressed(MemberId id, const v1::LoadProgress& progress,
                                      absl::Time now) {
  RankState* rank = CurrentRank(id, progress.epoch());
  if (rank == nullptr) return;
  if (progress.loaded_bytes() > rank->loaded_bytes) moved_at_ = std::max(moved_at_, now);
  rank->loaded_bytes = progress.loaded_bytes();
  rank->total_bytes = progress.total_bytes();
}

void ReplicaFormation::HeartbeatCame(MemberId id, const v1::Progress& progress, absl::Time now) {
  // Only loading may take long; who connects or idles for ever is stuck, whatever its pulse.
  if (CurrentRank(id, progress.epoch()) != nullptr && progress.phase() == v1::PHASE_LOADING) {
    moved_at_ = std::max(moved_at_, now - absl::Microseconds(progress.age_us()));
  }
}

Commands ReplicaFormation::RankReady(MemberId id, const v1::Ready& ready, absl::Time now) {
  RankState* rank = CurrentRank(id, ready.epoch());
  if (rank == nullptr || phase_ != Phase::kLoading) return {};
  rank->ready = ready;
  moved_at_ = now;
  ServeIfAllDone();
  return Take();
}

Commands ReplicaFormation::RankFailed(MemberId id, const v1::EpochFailed& failure, absl::Time now) {
  RankState* rank = CurrentRank(id, failure.epoch());
  if (rank == nullptr) return {};
  absl::StatusCode code = static_cast<absl::StatusCode>(failure.code());
  if (code == absl::StatusCode::kOk) code = absl::StatusCode::kUnknown;
  EndEpoch(absl::Status(code, absl::StrCat(DescribeRank(*rank), ": ", failure.message())), now);
  return Take();
}

absl::StatusOr<Commands> ReplicaFormation::StreamOpened(const v1::ExecuteHello& hello,
                                                        absl::Time now) {
  // A rank's Ready travels on another stream and may come after this.
  if (phase_ != Phase::kLoading) {
    return absl::FailedPreconditionError(
        absl::StrCat("epoch ", hello.epoch(), " takes no Execute streams; ", epoch_->Describe()));
  }
  if (hello.rank() >= epoch_->ranks().size() || epoch_->ranks()[hello.rank()].stream_open) {
    return absl::FailedPreconditionError(absl::StrCat(
        "epoch ", hello.epoch(), " has ", epoch_->ranks().size(),
        " ranks with one Execute stream each; rank ", hello.rank(), " is none or has one"));
  }
  epoch_->ranks()[hello.rank()].stream_open = true;
  moved_at_ = now;
  ServeIfAllDone();
  return Take();
}

Commands ReplicaFormation::StreamClosed(uint32_t rank, const absl::Status& reason, absl::Time now) {
  EndEpoch(absl::UnavailableError(absl::StrCat(DescribeRank(epoch_->ranks()[rank]),
                                               " closed its Execute stream: ", reason.message())),
           now);
  return Take();
}

Commands ReplicaFormation::StepsFailed(const absl::Status& reason, absl::Time now) {
  EndEpoch(reason, now);
  return Take();
}

Commands ReplicaFormation::Shutdown(const std::string& reason) {
  if (epoch_) EndEpoch(absl::UnavailableError(reason), absl::InfinitePast());
  phase_ = Phase::kShutDown;
  detail_ = reason;
  return Take();
}

std::optional<absl::Time> ReplicaFormation::NextDeadline() const {
  switch (phase_) {
    case Phase::kPausing:
      return retry_at_;
    case Phase::kConnecting:
      return moved_at_ + config_.policy.address_deadline;
    case Phase::kLoading:
      return moved_at_ + config_.policy.progress_deadline;
    default:
      return std::nullopt;
  }
}

Commands ReplicaFormation::TimePassed(absl::Time now) {
  std::optional<absl::Time> deadline = NextDeadline();
  if (!deadline || now < *deadline) return {};
  if (phase_ == Phase::kPausing) {
    phase_ = Phase::kWaiting;
    TryToForm(now);
    return Take();
  }
  EndEpoch(absl::DeadlineExceededError(
               absl::StrCat("no progress for ", absl::FormatDuration(now - moved_at_), " in ",
                            epoch_->Describe(), "; waited for ", epoch_->Laggards())),
           now);
  return Take();
}

v1::ClusterState ReplicaFormation::state() const {
  switch (phase_) {
    case Phase::kConnecting:
    case Phase::kLoading:
      return v1::CLUSTER_STATE_FORMING;
    case Phase::kServing:
      return v1::CLUSTER_STATE_SERVING;
    case Phase::kFailed:
      return v1::CLUSTER_STATE_FAILED;
    default:
      return v1::CLUSTER_STATE_WAITING;
  }
}

std::string ReplicaFormation::detail() const {
  if (phase_ == Phase::kServing) return "";
  std::string now = epoch_ ? epoch_->Describe() : detail_;
  if (last_failure_.empty() || phase_ == Phase::kFailed) return now;
  return absl::StrCat(now, "; ", last_failure_);
}

RankState* ReplicaFormation::CurrentRank(MemberId id, uint64_t epoch) {
  if (!epoch_ || epoch_->number() != epoch) return nullptr;
  return epoch_->RankOf(id);
}

void ReplicaFormation::TryToForm(absl::Time now) {
  const model::PlanRequest& request = config_.plan.request;
  const std::vector<MemberId> free = membership_->FreeIds();
  std::vector<WorkerInfo> workers;
  for (MemberId id : free) workers.push_back(membership_->Find(id)->info);
  absl::StatusOr<std::vector<size_t>> worker_of_rank =
      PlaceRanks(workers, {.tp_size = request.tp_size,
                           .pp_size = request.pp_size,
                           .allow_cross_node_tp = request.allow_cross_node_tp});
  if (!worker_of_rank.ok()) {
    detail_ = absl::StrCat(worker_of_rank.status().message());
    const size_t busy = membership_->members().size() - free.size();
    if (busy > 0) absl::StrAppend(&detail_, ", not counting ", busy, " of other replicas");
    return;
  }
  std::vector<MemberId> member_of_rank;
  for (size_t worker : *worker_of_rank) member_of_rank.push_back(free[worker]);
  Assign(member_of_rank, now);
}

void ReplicaFormation::Assign(const std::vector<MemberId>& member_of_rank, absl::Time now) {
  std::vector<Epoch::PlacedWorker> placed;
  std::vector<WorkerInfo> infos;
  for (MemberId id : member_of_rank) {
    infos.push_back(membership_->Find(id)->info);
    placed.push_back({id, infos.back()});
  }
  absl::StatusOr<int64_t> kv_blocks = KvBlocksFor(config_.plan, infos, config_.max_sequences);
  if (!kv_blocks.ok()) {
    phase_ = Phase::kFailed;
    detail_ = absl::StrCat(kv_blocks.status().message());
    return;
  }
  for (MemberId id : member_of_rank) membership_->Claim(id, replica_);
  last_epoch_ = membership_->TakeEpoch();
  epoch_.emplace(config_, last_epoch_, placed, *kv_blocks);
  phase_ = Phase::kConnecting;
  moved_at_ = now;
  for (const RankState& rank : epoch_->ranks()) {
    v1::JoinResponse message;
    *message.mutable_assignment() = rank.assignment;
    Send(rank.member, std::move(message));
  }
}

void ReplicaFormation::ServeIfAllDone() {
  if (!epoch_->AllDone()) return;
  phase_ = Phase::kServing;
  failures_in_a_row_ = 0;
  last_failure_.clear();
  commands_.push_back(EpochServing{replica_, epoch_->limits()});
}

void ReplicaFormation::EndEpoch(const absl::Status& reason, absl::Time now) {
  for (const RankState& rank : epoch_->ranks()) {
    if (membership_->Find(rank.member) == nullptr) continue;
    v1::JoinResponse message;
    message.mutable_abort_epoch()->set_epoch(epoch_->number());
    message.mutable_abort_epoch()->set_reason(absl::StrCat(reason.message()));
    Send(rank.member, std::move(message));
  }
  membership_->Release(replica_);
  commands_.push_back(EpochEnded{replica_, epoch_->number(), phase_ == Phase::kServing, reason});
  last_failure_ = absl::StrCat("epoch ", epoch_->number(), " has ended: ", reason.message());
  epoch_.reset();
  if (IsPermanent(reason)) {
    phase_ = Phase::kFailed;
    detail_ = absl::StrCat(reason.message());
    return;
  }
  phase_ = Phase::kPausing;
  detail_ = "about to form again";
  absl::Duration pause = config_.policy.first_retry * (1 << std::min(failures_in_a_row_, 16));
  retry_at_ = now + std::min(pause, config_.policy.longest_retry);
  ++failures_in_a_row_;
}

void ReplicaFormation::Send(MemberId to, v1::JoinResponse message) {
  commands_.push_back(SendToWorker{to, std::move(message)});
}

}  // namespace lockstep::coordinator
