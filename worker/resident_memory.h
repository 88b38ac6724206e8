// What the process and the machine have of memory, from /proc and the control group.
#ifndef LOCKSTEP_WORKER_RESIDENT_MEMORY_H_
#define LOCKSTEP_WORKER_RESIDENT_MEMORY_H_

#include <cstdint>

namespace lockstep::worker {

/// Anonymous and shared memory of this process, in bytes; pages of mapped files are not counted. 0
/// where /proc does not say.
int64_t ResidentBytes();

/// Memory that can be had without swapping, in bytes: the machine's MemAvailable, and no more than
/// what the control group has left. 0 where the system does not say.
int64_t AvailableMemoryBytes();

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_RESIDENT_MEMORY_H_
