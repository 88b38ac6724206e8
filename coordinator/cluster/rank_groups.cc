// Rows and columns of the pp x tp grid of ranks.
#include "coordinator/cluster/rank_groups.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace lockstep::coordinator {
namespace {

v1::Transport TransportOf(std::span<const WorkerInfo> workers, const std::vector<int>& ranks) {
  if (ranks.size() == 1) return v1::TRANSPORT_SOLO;
  bool one_node = std::all_of(ranks.begin(), ranks.end(), [&](int rank) {
    return workers[rank].shm_domain == workers[ranks[0]].shm_domain;
  });
  return one_node ? v1::TRANSPORT_SHM : v1::TRANSPORT_TCP;
}

}  // namespace

std::vector<RankGroupSpec> MakeRankGroups(std::span<const WorkerInfo> worker_of_rank, int tp_size,
                                          int pp_size) {
  std::vector<RankGroupSpec> groups;
  auto add = [&](v1::CollectiveGroup::Purpose purpose, std::string name, std::vector<int> ranks) {
    v1::Transport transport = TransportOf(worker_of_rank, ranks);
    groups.push_back({purpose, std::move(name), transport, std::move(ranks)});
  };
  for (int stage = 0; stage < pp_size; ++stage) {
    std::vector<int> ranks;
    for (int tp_rank = 0; tp_rank < tp_size; ++tp_rank) ranks.push_back(stage * tp_size + tp_rank);
    add(v1::CollectiveGroup::PURPOSE_TENSOR, absl::StrCat("tp", stage), std::move(ranks));
  }
  if (pp_size == 1) return groups;
  for (int tp_rank = 0; tp_rank < tp_size; ++tp_rank) {
    std::vector<int> ranks;
    for (int stage = 0; stage < pp_size; ++stage) ranks.push_back(stage * tp_size + tp_rank);
    add(v1::CollectiveGroup::PURPOSE_ACTIVATIONS, absl::StrCat("pp", tp_rank), ranks);
    add(v1::CollectiveGroup::PURPOSE_TOKENS, absl::StrCat("ret", tp_rank), ranks);
  }
  return groups;
}

}  // namespace lockstep::coordinator
