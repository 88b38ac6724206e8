// Assignments out of the plan, and the books of who has answered what.
#include "coordinator/cluster/epoch.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace lockstep::coordinator {
namespace {

GroupLimits MakeLimits(const ClusterConfig& config, uint64_t number, int64_t kv_blocks) {
  return GroupLimits{
      .epoch = number,
      .pp_size = config.plan.request.pp_size,
      .kv_blocks = kv_blocks,
      .max_batch_tokens = config.plan.request.batch_tokens,
      .max_sequences = config.max_sequences,
      .context_tokens = config.plan.context_tokens,
  };
}

v1::Assignment MakeAssignment(const ClusterConfig& config, const GroupLimits& limits, int rank) {
  v1::Assignment assignment;
  assignment.set_epoch(limits.epoch);
  assignment.set_rank(rank);
  assignment.set_tp_size(config.plan.request.tp_size);
  assignment.set_pp_size(config.plan.request.pp_size);
  assignment.set_tp_rank(rank % config.plan.request.tp_size);
  assignment.set_pp_stage(rank / config.plan.request.tp_size);
  *assignment.mutable_model() = config.model;
  assignment.set_kv_blocks(limits.kv_blocks);
  assignment.set_max_batch_tokens(limits.max_batch_tokens);
  assignment.set_max_sequences(limits.max_sequences);
  assignment.set_context_tokens(limits.context_tokens);
  return assignment;
}

}  // namespace

Epoch::Epoch(const ClusterConfig& config, uint64_t number, std::span<const PlacedWorker> workers,
             int64_t kv_blocks)
    : limits_(MakeLimits(config, number, kv_blocks)) {
  std::vector<WorkerInfo> infos;
  for (size_t rank = 0; rank < workers.size(); ++rank) {
    infos.push_back(workers[rank].worker);
    ranks_.push_back({.member = workers[rank].member,
                      .worker = workers[rank].worker,
                      .assignment = MakeAssignment(config, limits_, static_cast<int>(rank))});
  }
  groups_ = MakeRankGroups(infos, config.plan.request.tp_size, config.plan.request.pp_size);
  for (const RankGroupSpec& spec : groups_) {
    for (size_t i = 0; i < spec.ranks.size(); ++i) {
      v1::CollectiveGroup* group = ranks_[spec.ranks[i]].assignment.add_groups();
      group->set_purpose(spec.purpose);
      group->set_name(spec.name);
      group->set_transport(spec.transport);
      group->set_rank(static_cast<uint32_t>(i));
      group->set_size(static_cast<uint32_t>(spec.ranks.size()));
    }
  }
}

RankState* Epoch::RankOf(MemberId member) {
  auto rank = std::find_if(ranks_.begin(), ranks_.end(),
                           [&](const RankState& state) { return state.member == member; });
  return rank == ranks_.end() ? nullptr : &*rank;
}

absl::Status Epoch::TakeAddresses(RankState& rank, const v1::CollectiveAddresses& addresses) {
  for (const v1::CollectiveGroup& group : rank.assignment.groups()) {
    if (group.size() > 1 && !addresses.address_by_group().contains(group.name())) {
      return absl::InvalidArgumentError(
          absl::StrCat(DescribeRank(rank), " told no address for its group ", group.name()));
    }
  }
  rank.address_by_group.emplace(addresses.address_by_group().begin(),
                                addresses.address_by_group().end());
  return absl::OkStatus();
}

bool Epoch::HasAllAddresses() const {
  return std::all_of(ranks_.begin(), ranks_.end(),
                     [](const RankState& rank) { return rank.address_by_group.has_value(); });
}

v1::CollectivePeers Epoch::PeersOf(size_t rank) const {
  v1::CollectivePeers peers;
  peers.set_epoch(number());
  for (const RankGroupSpec& group : groups_) {
    if (std::find(group.ranks.begin(), group.ranks.end(), rank) == group.ranks.end()) continue;
    v1::CollectivePeers::Addresses& addresses = (*peers.mutable_addresses_by_group())[group.name];
    for (int member : group.ranks) {
      const std::map<std::string, std::string>& told = *ranks_[member].address_by_group;
      auto address = told.find(group.name);
      addresses.add_addresses(address == told.end() ? "" : address->second);
    }
  }
  return peers;
}

bool Epoch::AllDone() const {
  return std::all_of(ranks_.begin(), ranks_.end(),
                     [](const RankState& rank) { return rank.done(); });
}

std::string Epoch::Describe() const {
  auto count = [&](auto predicate) {
    return std::count_if(ranks_.begin(), ranks_.end(), predicate);
  };
  if (!HasAllAddresses()) {
    return absl::StrCat("epoch ", number(), ": ", count([](const RankState& rank) {
                          return rank.address_by_group.has_value();
                        }),
                        " of ", ranks_.size(), " ranks prepared to connect");
  }
  return absl::StrCat("epoch ", number(), ": ",
                      count([](const RankState& rank) { return rank.done(); }), " of ",
                      ranks_.size(), " ranks ready");
}

std::string Epoch::Laggards() const {
  std::vector<std::string> laggards;
  bool addresses = HasAllAddresses();
  for (const RankState& rank : ranks_) {
    if (addresses ? !rank.done() : !rank.address_by_group) laggards.push_back(DescribeRank(rank));
  }
  return absl::StrJoin(laggards, ", ");
}

std::string DescribeRank(const RankState& rank) {
  return absl::StrCat("rank ", rank.assignment.rank(), " (", rank.worker.device, " on node ",
                      rank.worker.node, ")");
}

}  // namespace lockstep::coordinator
