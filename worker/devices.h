// Which devices a workerd serves and which processors each of them computes on.
#ifndef LOCKSTEP_WORKER_DEVICES_H_
#define LOCKSTEP_WORKER_DEVICES_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace lockstep::worker {

/// "cpu:0" and the logical processors that it computes on, ascending.
struct Device {
  std::string name;
  std::vector<int> cpus;
};

/// "0-3,8" as the kernel writes lists of processors. InvalidArgument for anything else, and for the
/// empty list.
absl::StatusOr<std::vector<int>> ParseCpuList(std::string_view text);
/// The other way round.
std::string FormatCpuList(const std::vector<int>& cpus);

/// The machine as far as this process may use it.
struct Processors {
  std::vector<int> cpus;                     // one per physical core, ascending
  std::vector<std::vector<int>> numa_nodes;  // the same, by NUMA node; none empty
};
Processors ReadProcessors();

/// `devices` is "all", one CPU device per NUMA node, or a list such as "cpu:0,cpu:1", which share
/// the processors out in equal, contiguous parts (one each, shared in turn, when there are fewer
/// processors than devices). InvalidArgument for a repeated or unknown device, naming the legal
/// ones.
absl::StatusOr<std::vector<Device>> PlaceDevices(std::string_view devices,
                                                 const Processors& processors);

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_DEVICES_H_
