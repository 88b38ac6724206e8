// One rank as a process, driven by a test over stdin and stdout (peer_process.h):
//   prints its address; reads the addresses of all ranks, one a line; connects; prints "connected";
//   runs --scenario; prints how it ended and waits until stdin is closed.
#include <sys/prctl.h>

#include <csignal>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "worker/collective/collective.h"
#include "worker/collective/operations_check.h"

ABSL_FLAG(std::string, transport, "shm", "shm or tcp.");
ABSL_FLAG(std::string, interface_address, "127.0.0.1", "Where tcp listens.");
ABSL_FLAG(int, rank, 0, "Rank of this process.");
ABSL_FLAG(int, size, 1, "Ranks of the group.");
ABSL_FLAG(int64_t, capacity, 140'000, "Largest addend in floats.");
ABSL_FLAG(uint64_t, seed, 1, "Draws the operations.");
ABSL_FLAG(int, rounds, 25, "Operations of the scenario operations.");
ABSL_FLAG(
    std::string, scenario, "operations",
    "operations: checks random ones; all_reduce: repeats one until it fails; idle: does nothing.");

namespace lockstep::worker {
namespace {

constexpr int64_t kSmall = 2048;

absl::StatusOr<std::unique_ptr<CollectiveSetup>> MakeSetup() {
  GroupMember member = {.epoch = 7,
                        .group = "test",
                        .rank = absl::GetFlag(FLAGS_rank),
                        .size = absl::GetFlag(FLAGS_size)};
  if (absl::GetFlag(FLAGS_transport) == "shm") {
    return MakeShmSetup(member, absl::GetFlag(FLAGS_capacity));
  }
  return MakeTcpSetup(member, absl::GetFlag(FLAGS_interface_address));
}

absl::Status RunScenario(Collective& collective) {
  std::string scenario = absl::GetFlag(FLAGS_scenario);
  uint64_t seed = absl::GetFlag(FLAGS_seed);
  absl::Status status;
  while (status.ok() && scenario == "all_reduce") {
    status = CheckAllReduce(collective, seed++, kSmall);
  }
  if (scenario == "operations") {
    status = CheckOperations(collective, seed, absl::GetFlag(FLAGS_rounds),
                             absl::GetFlag(FLAGS_capacity));
  }
  return status;
}

absl::Status Run() {
  LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<CollectiveSetup> setup, MakeSetup());
  std::cout << setup->address() << std::endl;
  std::vector<std::string> addresses(static_cast<size_t>(absl::GetFlag(FLAGS_size)));
  for (std::string& address : addresses) std::getline(std::cin, address);
  LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<Collective> collective,
                            setup->Connect(addresses, absl::Now() + absl::Seconds(30)));
  std::cout << "connected" << std::endl;
  absl::Status status = RunScenario(*collective);
  std::cout << status.ToString() << std::endl;
  // Leaves only when told, so that a test decides who goes first.
  for (std::string line; std::getline(std::cin, line);) {
  }
  return status;
}

}  // namespace
}  // namespace lockstep::worker

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  absl::Status status = lockstep::worker::Run();
  if (!status.ok()) std::cout << status.ToString() << std::endl;
  return status.ok() ? 0 : 1;
}
