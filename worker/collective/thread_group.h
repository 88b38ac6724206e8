// A group whose ranks are threads of one test process.
#ifndef LOCKSTEP_WORKER_COLLECTIVE_THREAD_GROUP_H_
#define LOCKSTEP_WORKER_COLLECTIVE_THREAD_GROUP_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/collective/collective.h"

namespace lockstep::worker {

enum class Transport { kShm, kTcp };
std::string Name(Transport transport);

/// What MakeShmSetup or MakeTcpSetup on loopback makes.
absl::StatusOr<std::unique_ptr<CollectiveSetup>> MakeSetup(Transport transport,
                                                           const GroupMember& member,
                                                           int64_t addend_capacity);

/// Calls body(rank) in one thread per rank and returns when all have returned.
void InThreads(int size, const std::function<void(int)>& body);

/// A connected group, by rank; every error fails the test and leaves a null.
std::vector<std::unique_ptr<Collective>> ConnectInThreads(Transport transport, int size,
                                                          int64_t addend_capacity);

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_COLLECTIVE_THREAD_GROUP_H_
