// Making and connecting the communicators of an assignment.
#include "worker/rank_groups.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "worker/watched_collective.h"

namespace lockstep::worker {
namespace {

// Messages between stages go through rings of the transport's own; no addends are exchanged.
constexpr int64_t kNoAddends = 1024;

using Purpose = v1::CollectiveGroup::Purpose;

absl::Status CheckGroup(const v1::Assignment& assignment, const v1::CollectiveGroup& group) {
  bool tensor = group.purpose() == v1::CollectiveGroup::PURPOSE_TENSOR;
  uint32_t size = tensor ? assignment.tp_size() : assignment.pp_size();
  uint32_t rank = tensor ? assignment.tp_rank() : assignment.pp_stage();
  if (group.size() != size || group.rank() != rank) {
    return absl::InvalidArgumentError(absl::StrCat("group ", group.name(), " makes this rank ",
                                                   group.rank(), " of ", group.size(),
                                                   "; the plan makes it ", rank, " of ", size));
  }
  return absl::OkStatus();
}

absl::Status CheckGroups(const v1::Assignment& assignment) {
  auto count = [&](Purpose purpose) {
    return std::count_if(assignment.groups().begin(), assignment.groups().end(),
                         [&](const auto& group) { return group.purpose() == purpose; });
  };
  const int stage_groups = assignment.pp_size() > 1 ? 1 : 0;
  if (count(v1::CollectiveGroup::PURPOSE_TENSOR) != 1 ||
      count(v1::CollectiveGroup::PURPOSE_ACTIVATIONS) != stage_groups ||
      count(v1::CollectiveGroup::PURPOSE_TOKENS) != stage_groups ||
      assignment.groups_size() != 1 + 2 * stage_groups) {
    return absl::InvalidArgumentError(absl::StrCat(
        "an assignment to one of ", assignment.pp_size(),
        " stages needs one tensor group and, with several stages, one group for activations and "
        "one for tokens; got ",
        assignment.groups_size(), " groups"));
  }
  for (const auto& group : assignment.groups()) {
    LOCKSTEP_RETURN_IF_ERROR(CheckGroup(assignment, group));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<CollectiveSetup>> MakeSetup(const v1::Assignment& assignment,
                                                           const v1::CollectiveGroup& group,
                                                           int64_t addend_capacity,
                                                           const std::string& data_interface) {
  const GroupMember member{assignment.epoch(), group.name(), static_cast<int>(group.rank()),
                           static_cast<int>(group.size())};
  const bool tensor = group.purpose() == v1::CollectiveGroup::PURPOSE_TENSOR;
  switch (group.transport()) {
    case v1::TRANSPORT_SOLO:
      if (group.size() == 1) return nullptr;
      break;
    case v1::TRANSPORT_SHM:
      return MakeShmSetup(member, tensor ? addend_capacity : kNoAddends);
    case v1::TRANSPORT_TCP:
      return MakeTcpSetup(member, data_interface);
    default:
      break;
  }
  return absl::InvalidArgumentError(absl::StrCat("group ", group.name(), " of ", group.size(),
                                                 " ranks over transport ",
                                                 static_cast<int>(group.transport())));
}

absl::Status InGroup(const v1::CollectiveGroup& group, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat("group ", group.name(), ": ", status.message()));
}

}  // namespace

int64_t RankGroups::wait_ns() const {
  int64_t total = 0;
  for (const Collective* group : {tensor.get(), activations.get(), tokens.get()}) {
    if (group != nullptr) total += group->wait_ns();
  }
  return total;
}

absl::StatusOr<std::unique_ptr<RankGroupsSetup>> RankGroupsSetup::Create(
    const v1::Assignment& assignment, int64_t addend_capacity, const std::string& data_interface) {
  LOCKSTEP_RETURN_IF_ERROR(CheckGroups(assignment));
  auto setup = std::make_unique<RankGroupsSetup>();
  for (const auto& group : assignment.groups()) {
    auto made = MakeSetup(assignment, group, addend_capacity, data_interface);
    if (!made.ok()) return InGroup(group, made.status());
    setup->members_.push_back({group, *std::move(made)});
  }
  std::sort(setup->members_.begin(), setup->members_.end(),
            [](const Member& a, const Member& b) { return a.group.purpose() < b.group.purpose(); });
  return setup;
}

std::map<std::string, std::string> RankGroupsSetup::addresses() const {
  std::map<std::string, std::string> addresses;
  for (const Member& member : members_) {
    if (member.setup) addresses[member.group.name()] = member.setup->address();
  }
  return addresses;
}

absl::Status RankGroupsSetup::Connect(const v1::CollectivePeers& peers, absl::Time deadline,
                                      Progress& progress) {
  for (const Member& member : members_) {
    auto collective = ConnectOne(member, peers, deadline);
    if (!collective.ok()) return InGroup(member.group, collective.status());
    LOCKSTEP_RETURN_IF_ERROR(Keep(member.group, Watched(*std::move(collective), &progress)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Collective>> RankGroupsSetup::ConnectOne(
    const Member& member, const v1::CollectivePeers& peers, absl::Time deadline) {
  if (!member.setup) return MakeSoloCollective();
  auto found = peers.addresses_by_group().find(member.group.name());
  if (found == peers.addresses_by_group().end() ||
      found->second.addresses_size() != static_cast<int>(member.group.size())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the coordinator did not tell the addresses of all ", member.group.size(), " ranks"));
  }
  std::vector<std::string> addresses(found->second.addresses().begin(),
                                     found->second.addresses().end());
  return member.setup->Connect(addresses, deadline);
}

absl::Status RankGroupsSetup::Keep(const v1::CollectiveGroup& group,
                                   std::unique_ptr<Collective> collective) {
  std::lock_guard lock(mutex_);
  if (aborted_) return absl::AbortedError(abort_reason_);
  switch (group.purpose()) {
    case v1::CollectiveGroup::PURPOSE_ACTIVATIONS:
      groups_.activations = std::move(collective);
      break;
    case v1::CollectiveGroup::PURPOSE_TOKENS:
      groups_.tokens = std::move(collective);
      break;
    default:
      groups_.tensor = std::move(collective);
  }
  return absl::OkStatus();
}

void RankGroupsSetup::Abort(const std::string& reason) {
  std::lock_guard lock(mutex_);
  if (std::exchange(aborted_, true)) return;
  abort_reason_ = reason;
  for (const Member& member : members_) {
    if (member.setup) member.setup->Abort(reason);
  }
  for (Collective* group :
       {groups_.tensor.get(), groups_.activations.get(), groups_.tokens.get()}) {
    if (group != nullptr) group->Abort(reason);
  }
}

}  // namespace lockstep::worker
