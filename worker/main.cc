// workerd: serves one or several devices of this machine to a coordinator.
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/random/random.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/flags_main.h"
#include "base/status_macros.h"
#include "base/units.h"
#include "base/version.h"
#include "glog/logging.h"
#include "worker/collective/collective.h"
#include "worker/coordinator_client.h"
#include "worker/daemon_options.h"
#include "worker/resident_memory.h"
#include "worker/supervisor.h"
#include "worker/worker.h"

ABSL_FLAG(std::string, coordinator, "",
          "HOST:PORT of the coordinator; default MASTER_ADDR with port LOCKSTEP_PORT or 50051, as "
          "torchrun sets it");
ABSL_FLAG(
    std::string, devices, "",
    "all (one CPU device per NUMA node), or a list such as cpu:0,cpu:1, which share the cores "
    "out; one supervised process each; default all, or under torchrun the one of LOCAL_RANK");
ABSL_FLAG(std::string, device, "", "serve this device in this very process, unsupervised");
ABSL_FLAG(std::string, cpus, "",
          "processors to compute on, such as 0-3,8; default one of every core");
ABSL_FLAG(int, threads, 0, "compute threads per device; default one per processor of the device");
ABSL_FLAG(std::string, node, "",
          "name of this node; workers with different names share no memory; default the host name");
ABSL_FLAG(std::string, data_interface, "",
          "local address on which ranks of other nodes reach this one; default the one that routes "
          "to the coordinator");
ABSL_FLAG(
    lockstep::Bytes, device_memory, lockstep::Bytes{},
    "memory that a device may use, such as 80GiB; default what is available, in proportion to "
    "the device's processors");
ABSL_FLAG(int, local_index, -1,
          "place of the first device among the workers of its node; default LOCAL_RANK, else 0");
ABSL_FLAG(bool, insecure, false,
          "speak plain text to a coordinator on another machine; for trusted networks");

namespace lockstep::worker {
namespace {

DaemonFlags FlagsAsGiven() {
  DaemonFlags flags;
  flags.coordinator = absl::GetFlag(FLAGS_coordinator);
  flags.devices = absl::GetFlag(FLAGS_devices);
  flags.device = absl::GetFlag(FLAGS_device);
  flags.cpus = absl::GetFlag(FLAGS_cpus);
  flags.threads = absl::GetFlag(FLAGS_threads);
  flags.node = absl::GetFlag(FLAGS_node);
  flags.data_interface = absl::GetFlag(FLAGS_data_interface);
  flags.device_memory_bytes = absl::GetFlag(FLAGS_device_memory).value;
  if (int index = absl::GetFlag(FLAGS_local_index); index >= 0) flags.local_index = index;
  flags.insecure = absl::GetFlag(FLAGS_insecure);
  return flags;
}

std::string NewWorkerId() {
  absl::BitGen random;
  return absl::StrFormat("%016x%016x", absl::Uniform<uint64_t>(random),
                         absl::Uniform<uint64_t>(random));
}

absl::StatusOr<v1::Register> MakeRegistration(const DaemonOptions& options,
                                              const DeviceOptions& device) {
  LOCKSTEP_ASSIGN_OR_RETURN(std::string shm_domain, ShmDomain());
  v1::Register registration;
  registration.set_protocol_version(kProtocolVersion);
  registration.set_worker_id(NewWorkerId());
  registration.set_node(options.node);
  registration.set_shm_domain(absl::StrCat(shm_domain, "/", options.node));
  registration.set_device(device.device.name);
  registration.set_local_index(device.local_index);
  registration.set_memory_bytes(device.memory_bytes);
  registration.set_threads(device.threads);
  registration.set_pid(getpid());
  return registration;
}

absl::Status ServeDevice(const DaemonOptions& options, const DeviceOptions& device,
                         const sigset_t& stop_signals) {
  WorkerOptions worker_options;
  LOCKSTEP_ASSIGN_OR_RETURN(worker_options.registration, MakeRegistration(options, device));
  if (device.pinned) worker_options.cpus = device.device.cpus;
  worker_options.threads = device.threads;
  worker_options.data_interface = options.data_interface;
  worker_options.dial = [address = options.coordinator] { return Dial(address); };
  LOG(INFO) << device.device.name << " on node " << options.node << ", processors "
            << FormatCpuList(device.device.cpus) << ", coordinator " << options.coordinator;
  Worker worker(std::move(worker_options));
  std::thread signals([&] {
    int signal = 0;
    sigwait(&stop_signals, &signal);
    worker.Stop();
  });
  worker.Run();
  // Ends the thread if it was the coordinator that ended Run.
  pthread_kill(signals.native_handle(), SIGTERM);
  signals.join();
  return absl::OkStatus();
}

ChildCommand CommandFor(const DaemonOptions& options, const DeviceOptions& device) {
  std::vector<std::string> arguments = {
      std::filesystem::read_symlink("/proc/self/exe").string(),
      absl::StrCat("--coordinator=", options.coordinator),
      absl::StrCat("--device=", device.device.name),
      absl::StrCat("--cpus=", FormatCpuList(device.device.cpus)),
      absl::StrCat("--threads=", device.threads),
      absl::StrCat("--node=", options.node),
      absl::StrCat("--data_interface=", options.data_interface),
      absl::StrCat("--device_memory=", device.memory_bytes),
      absl::StrCat("--local_index=", device.local_index),
  };
  if (options.insecure) arguments.push_back("--insecure");
  return {device.device.name, std::move(arguments)};
}

absl::StatusOr<int> Run(const std::vector<std::string>& arguments, const sigset_t& stop_signals) {
  if (!arguments.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", arguments[0], "' is no flag; all arguments are flags, see --help"));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(DaemonOptions options,
                            ResolveOptions(
                                FlagsAsGiven(), [](const char* name) { return std::getenv(name); },
                                ReadProcessors(), AvailableMemoryBytes()));
  if (!absl::GetFlag(FLAGS_device).empty()) {
    LOCKSTEP_RETURN_IF_ERROR(ServeDevice(options, options.devices[0], stop_signals));
    return 0;
  }
  std::vector<ChildCommand> commands;
  for (const DeviceOptions& device : options.devices) {
    commands.push_back(CommandFor(options, device));
  }
  return Supervise(commands);
}

}  // namespace
}  // namespace lockstep::worker

int main(int argc, char** argv) {
  // Blocked before any thread starts, so that only sigwait gets them.
  sigset_t signals;
  sigemptyset(&signals);
  for (int signal : {SIGTERM, SIGINT, SIGCHLD}) sigaddset(&signals, signal);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::vector<std::string> arguments =
      lockstep::InitMain(argc, argv,
                         "Serves this machine's devices to a coordinator.\n"
                         "  workerd --coordinator=HOST:PORT --devices=all");
  sigdelset(&signals, SIGCHLD);
  absl::StatusOr<int> status = lockstep::worker::Run(arguments, signals);
  if (status.ok()) return *status;
  std::cerr << "workerd: " << status.status().message() << std::endl;
  return 1;
}
