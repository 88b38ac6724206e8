// A map of members, and the checks at its door.
#include "coordinator/cluster/membership.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/version.h"

namespace lockstep::coordinator {
namespace {

absl::Status Invalid(absl::string_view field, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("register.", field, " ", what));
}

}  // namespace

absl::StatusOr<WorkerInfo> CheckRegister(const v1::Register& message) {
  if (message.protocol_version() != kProtocolVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the worker speaks protocol version ", message.protocol_version(),
        ", this coordinator version ", kProtocolVersion, "; use binaries of the same release"));
  }
  if (message.worker_id().empty()) return Invalid("worker_id", "is empty");
  if (message.node().empty()) return Invalid("node", "is empty");
  if (message.shm_domain().empty()) return Invalid("shm_domain", "is empty");
  if (message.device().empty()) return Invalid("device", "is empty");
  if (message.memory_bytes() == 0 || message.memory_bytes() > INT64_MAX) {
    return Invalid("memory_bytes", absl::StrCat("is ", message.memory_bytes()));
  }
  return WorkerInfo{
      .worker_id = message.worker_id(),
      .node = message.node(),
      .shm_domain = message.shm_domain(),
      .device = message.device(),
      .local_index = message.local_index(),
      .memory_bytes = static_cast<int64_t>(message.memory_bytes()),
      .threads = message.threads(),
      .pid = message.pid(),
      .highest_epoch = message.highest_epoch(),
  };
}

void Membership::Add(MemberId id, WorkerInfo info, absl::Time now) {
  highest_epoch_ = std::max(highest_epoch_, info.highest_epoch);
  members_[id] = Member{.info = std::move(info), .heartbeat_at = now};
}

bool Membership::Remove(MemberId id) { return members_.erase(id) > 0; }

void Membership::Heartbeat(MemberId id, const v1::Progress& progress, absl::Time now) {
  auto member = members_.find(id);
  if (member == members_.end()) return;
  member->second.progress = progress;
  member->second.heartbeat_at = now;
}

const Member* Membership::Find(MemberId id) const {
  auto member = members_.find(id);
  return member == members_.end() ? nullptr : &member->second;
}

std::vector<MemberId> Membership::Ids() const {
  std::vector<MemberId> ids;
  for (const auto& [id, member] : members_) ids.push_back(id);
  return ids;
}

std::vector<MemberId> Membership::FreeIds() const {
  std::vector<MemberId> ids;
  for (const auto& [id, member] : members_) {
    if (!member.replica) ids.push_back(id);
  }
  return ids;
}

void Membership::Claim(MemberId id, int replica) { members_.at(id).replica = replica; }

void Membership::Release(int replica) {
  for (auto& [id, member] : members_) {
    if (member.replica == replica) member.replica.reset();
  }
}

}  // namespace lockstep::coordinator
