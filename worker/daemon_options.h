// What workerd was asked to do: flags, the environment of torchrun and the machine, resolved into
// the devices to serve.
#ifndef LOCKSTEP_WORKER_DAEMON_OPTIONS_H_
#define LOCKSTEP_WORKER_DAEMON_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/devices.h"

namespace lockstep::worker {

/// As typed; empty or 0 where not given.
struct DaemonFlags {
  std::string coordinator;
  std::string devices;
  std::string device;
  std::string cpus;
  int threads = 0;
  std::string node;
  std::string data_interface;
  int64_t device_memory_bytes = 0;
  std::optional<int> local_index;
  bool insecure = false;
};

/// One process's share.
struct DeviceOptions {
  Device device;
  int threads = 1;     // compute threads
  bool pinned = true;  // one per entry of device.cpus
  int64_t memory_bytes = 0;
  uint32_t local_index = 0;
};

struct DaemonOptions {
  std::string coordinator;  // HOST:PORT
  std::string node;
  std::string data_interface;
  std::vector<DeviceOptions> devices;
  bool insecure = false;
};

/// nullptr for a variable that is not set.
using Environment = std::function<const char*(const char* name)>;

/// Resolves what was not given: the coordinator from MASTER_ADDR and LOCKSTEP_PORT (50051), the
/// device and local index from LOCAL_RANK and LOCAL_WORLD_SIZE, the node from the host's name, the
/// data interface from the route to the coordinator, memory from what is available, in proportion
/// to the processors. InvalidArgument names the flag; FailedPrecondition for a coordinator on
/// another machine without --insecure.
absl::StatusOr<DaemonOptions> ResolveOptions(const DaemonFlags& flags, const Environment& env,
                                             const Processors& processors,
                                             int64_t available_memory_bytes);

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_DAEMON_OPTIONS_H_
