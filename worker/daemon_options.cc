// Resolution of workerd's options.
#include "worker/daemon_options.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "worker/network.h"

namespace lockstep::worker {
namespace {

constexpr std::string_view kDefaultPort = "50051";

absl::StatusOr<std::string> ResolveCoordinator(const std::string& flag, const Environment& env) {
  if (!flag.empty()) return flag;
  const char* host = env("MASTER_ADDR");
  if (host == nullptr) {
    return absl::InvalidArgumentError(
        "--coordinator=HOST:PORT is missing, and MASTER_ADDR is not set either");
  }
  const char* port = env("LOCKSTEP_PORT");
  bool v6 = std::string_view(host).find(':') != std::string_view::npos;
  return absl::StrCat(v6 ? "[" : "", host, v6 ? "]:" : ":",
                      port != nullptr ? port : std::string(kDefaultPort));
}

absl::StatusOr<std::optional<int>> NumberFrom(const Environment& env, const char* name) {
  const char* text = env(name);
  if (text == nullptr) return std::nullopt;
  std::string_view view(text);
  int value = 0;
  auto [end, error] = std::from_chars(view.data(), view.data() + view.size(), value);
  if (error != std::errc() || end != view.data() + view.size() || value < 0 || value > 4096) {
    return absl::InvalidArgumentError(absl::StrCat(name, "=", text, " is not a number from 0"));
  }
  return value;
}

// Under torchrun every process serves the device of its own LOCAL_RANK.
absl::StatusOr<std::vector<Device>> TorchrunDevice(int local_rank, int local_world_size,
                                                   const Processors& processors) {
  if (local_rank >= local_world_size) {
    return absl::InvalidArgumentError(
        absl::StrCat("LOCAL_RANK=", local_rank, " with LOCAL_WORLD_SIZE=", local_world_size));
  }
  std::string all;
  for (int i = 0; i < local_world_size; ++i) absl::StrAppend(&all, i > 0 ? "," : "", "cpu:", i);
  LOCKSTEP_ASSIGN_OR_RETURN(std::vector<Device> placed, PlaceDevices(all, processors));
  return std::vector<Device>{placed[local_rank]};
}

absl::StatusOr<std::vector<Device>> ResolveDevices(const DaemonFlags& flags, const Environment& env,
                                                   const Processors& processors) {
  if (!flags.device.empty() && !flags.devices.empty()) {
    return absl::InvalidArgumentError("--device and --devices exclude each other");
  }
  if (!flags.device.empty()) return PlaceDevices(flags.device, processors);
  if (!flags.devices.empty()) return PlaceDevices(flags.devices, processors);
  LOCKSTEP_ASSIGN_OR_RETURN(std::optional<int> local_rank, NumberFrom(env, "LOCAL_RANK"));
  if (!local_rank) return PlaceDevices("all", processors);
  LOCKSTEP_ASSIGN_OR_RETURN(std::optional<int> size, NumberFrom(env, "LOCAL_WORLD_SIZE"));
  return TorchrunDevice(*local_rank, size.value_or(*local_rank + 1), processors);
}

absl::StatusOr<uint32_t> FirstLocalIndex(const DaemonFlags& flags, const Environment& env) {
  if (flags.local_index) return *flags.local_index;
  LOCKSTEP_ASSIGN_OR_RETURN(std::optional<int> local_rank, NumberFrom(env, "LOCAL_RANK"));
  return local_rank.value_or(0);
}

// A pinned thread per processor, unless other numbers were asked for.
void PlaceThreads(int threads, DeviceOptions& device) {
  std::vector<int>& cpus = device.device.cpus;
  device.threads = threads > 0 ? threads : static_cast<int>(cpus.size());
  device.pinned = device.threads <= static_cast<int>(cpus.size());
  if (device.pinned) cpus.resize(device.threads);
}

absl::Status CheckReachable(const Endpoint& coordinator, bool insecure) {
  if (insecure || IsLoopback(coordinator.host)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("the coordinator ", coordinator.host,
                   " is not on this machine's loopback, and traffic to it is neither encrypted nor "
                   "authenticated; say --insecure if the network is trusted"));
}

}  // namespace

absl::StatusOr<DaemonOptions> ResolveOptions(const DaemonFlags& flags, const Environment& env,
                                             const Processors& machine,
                                             int64_t available_memory_bytes) {
  DaemonOptions options;
  LOCKSTEP_ASSIGN_OR_RETURN(options.coordinator, ResolveCoordinator(flags.coordinator, env));
  LOCKSTEP_ASSIGN_OR_RETURN(Endpoint coordinator, ParseEndpoint(options.coordinator));
  LOCKSTEP_RETURN_IF_ERROR(CheckReachable(coordinator, flags.insecure));
  options.insecure = flags.insecure;
  options.node = flags.node.empty() ? HostName() : flags.node;
  options.data_interface = flags.data_interface;
  if (options.data_interface.empty()) {
    LOCKSTEP_ASSIGN_OR_RETURN(options.data_interface, LocalAddressTowards(coordinator));
  }
  if (flags.threads < 0) {
    return absl::InvalidArgumentError(absl::StrCat("--threads=", flags.threads, " is negative"));
  }
  Processors processors = machine;
  if (!flags.cpus.empty()) {
    LOCKSTEP_ASSIGN_OR_RETURN(processors.cpus, ParseCpuList(flags.cpus));
    processors.numa_nodes = {processors.cpus};
  }
  LOCKSTEP_ASSIGN_OR_RETURN(std::vector<Device> devices, ResolveDevices(flags, env, processors));
  LOCKSTEP_ASSIGN_OR_RETURN(uint32_t local_index, FirstLocalIndex(flags, env));
  for (Device& device : devices) {
    DeviceOptions& one = options.devices.emplace_back();
    const double share = static_cast<double>(device.cpus.size()) / machine.cpus.size();
    one.device = std::move(device);
    one.local_index = local_index++;
    one.memory_bytes = flags.device_memory_bytes > 0
                           ? flags.device_memory_bytes
                           : static_cast<int64_t>(available_memory_bytes * std::min(1.0, share));
    PlaceThreads(flags.threads, one);
  }
  return options;
}

}  // namespace lockstep::worker
