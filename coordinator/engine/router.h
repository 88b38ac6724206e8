// Chooses the replica that a request goes to: a pure function of what each replica says.
#ifndef LOCKSTEP_COORDINATOR_ENGINE_ROUTER_H_
#define LOCKSTEP_COORDINATOR_ENGINE_ROUTER_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace lockstep::coordinator {

/// A replica, in view of one request.
struct ReplicaView {
  bool formed = false;        // it has a group of ranks
  bool queue_full = false;    // it would refuse the request
  int64_t load = 0;           // choices that run or wait
  int64_t cached_tokens = 0;  // of the request's prompt, in its prefix cache
};

/// Index of the best of `replicas`, at least one. Those that are formed and have room in the queue
/// come first, whatever else. Among them the one that has most of the prompt cached, unless it is
/// busier than it would take to compute the prompt elsewhere: those whose load exceeds the least by
/// more than half of it and kLoadSlack are left out. Among equals the least load, then the lowest
/// index.
size_t ChooseReplica(std::span<const ReplicaView> replicas);

/// Requests that a replica may have more than the idlest and still be chosen for its cache.
inline constexpr int64_t kLoadSlack = 8;

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_ENGINE_ROUTER_H_
