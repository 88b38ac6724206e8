// Availability, then affinity within reason, then load.
#include "coordinator/engine/router.h"

#include <algorithm>
#include <limits>
#include <tuple>

namespace lockstep::coordinator {
namespace {

/// Greater is better; what makes a replica a candidate at all.
int Availability(const ReplicaView& replica) {
  return (replica.formed ? 1 : 0) + (replica.queue_full ? 0 : 2);
}

}  // namespace

size_t ChooseReplica(std::span<const ReplicaView> replicas) {
  int best_availability = 0;
  for (const ReplicaView& replica : replicas) {
    best_availability = std::max(best_availability, Availability(replica));
  }
  int64_t least_load = std::numeric_limits<int64_t>::max();
  for (const ReplicaView& replica : replicas) {
    if (Availability(replica) == best_availability) least_load = std::min(least_load, replica.load);
  }
  const int64_t most_load = least_load + least_load / 2 + kLoadSlack;
  // Compared in this order; smaller is better.
  using Score = std::tuple<int64_t, int64_t, size_t>;
  Score best{std::numeric_limits<int64_t>::max(), 0, 0};
  for (size_t i = 0; i < replicas.size(); ++i) {
    if (Availability(replicas[i]) != best_availability || replicas[i].load > most_load) continue;
    best = std::min(best, Score{-replicas[i].cached_tokens, replicas[i].load, i});
  }
  return std::get<2>(best);
}

}  // namespace lockstep::coordinator
