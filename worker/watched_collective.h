// A Collective that tells Progress while its rank waits for peers.
#ifndef LOCKSTEP_WORKER_WATCHED_COLLECTIVE_H_
#define LOCKSTEP_WORKER_WATCHED_COLLECTIVE_H_

#include <memory>

#include "worker/collective/collective.h"
#include "worker/progress.h"

namespace lockstep::worker {

/// Forwards to `inner`; during every blocking call the phase is kWaitingForPeer. `progress` must
/// outlive the result and be written by the operating thread.
std::unique_ptr<Collective> Watched(std::unique_ptr<Collective> inner, Progress* progress);

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_WATCHED_COLLECTIVE_H_
