// What every subcommand that talks to a running coordinator shares: its address and one call to
// ask how the cluster stands.
#ifndef LOCKSTEP_COORDINATOR_CTL_ADMIN_CLIENT_H_
#define LOCKSTEP_COORDINATOR_CTL_ADMIN_CLIENT_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpcpp/channel.h"
#include "proto/lockstep/v1/admin.pb.h"

namespace lockstep::coordinator {

/// The coordinator's address when nothing else is said: $LOCKSTEP_COORDINATOR, else loopback.
std::string DefaultCoordinatorAddress();

/// A plain-text channel to `address` ("HOST:PORT"). Never blocks: a wrong address shows at the
/// first call.
std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address);

/// The same with a connection of its own, where channels to one address would share one.
std::shared_ptr<grpc::Channel> MakeSeparateChannel(const std::string& address);

/// AdminService.GetTopology. Unavailable names the address and what to start or change.
absl::StatusOr<v1::GetTopologyResponse> GetTopology(const std::shared_ptr<grpc::Channel>& channel,
                                                    const std::string& address,
                                                    absl::Duration timeout);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CTL_ADMIN_CLIENT_H_
