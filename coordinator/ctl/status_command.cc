// See status_command.h.
#include "coordinator/ctl/status_command.h"

#include <unistd.h>

#include <iostream>

#include "absl/time/clock.h"
#include "coordinator/ctl/admin_client.h"
#include "coordinator/ctl/status_format.h"

namespace lockstep::coordinator {

int RunStatus(const StatusOptions& options) {
  std::shared_ptr<grpc::Channel> channel = MakeChannel(options.coordinator);
  const bool clear_screen = options.watch && !options.json && isatty(STDOUT_FILENO);
  while (true) {
    absl::StatusOr<v1::GetTopologyResponse> topology =
        GetTopology(channel, options.coordinator, absl::Seconds(5));
    if (clear_screen) std::cout << "\033[H\033[2J";
    if (topology.ok()) {
      std::cout << (options.json ? FormatStatusJson(*topology) : FormatStatus(*topology))
                << std::flush;
    } else {
      std::cerr << "coordinatorctl: " << topology.status().message() << std::endl;
    }
    if (!options.watch) {
      if (!topology.ok()) return 1;
      return topology->state() == v1::CLUSTER_STATE_SERVING ? 0 : 3;
    }
    absl::SleepFor(absl::Seconds(1));
  }
}

}  // namespace lockstep::coordinator
