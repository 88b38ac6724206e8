// gRPC calls of the command line; see admin_client.h.
#include "coordinator/ctl/admin_client.h"

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "proto/lockstep/v1/admin.grpc.pb.h"

namespace lockstep::coordinator {

std::string DefaultCoordinatorAddress() {
  const char* address = std::getenv("LOCKSTEP_COORDINATOR");
  return address != nullptr && *address != '\0' ? address : "127.0.0.1:50051";
}

namespace {

grpc::ChannelArguments CommonArguments() {
  grpc::ChannelArguments arguments;
  // A coordinator that was just started should be found at once, not after a second of backoff.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  // A proxy named in the environment has no business between the CLI and its coordinator.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return arguments;
}

}  // namespace

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address) {
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), CommonArguments());
}

std::shared_ptr<grpc::Channel> MakeSeparateChannel(const std::string& address) {
  grpc::ChannelArguments arguments = CommonArguments();
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

absl::StatusOr<v1::GetTopologyResponse> GetTopology(const std::shared_ptr<grpc::Channel>& channel,
                                                    const std::string& address,
                                                    absl::Duration timeout) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  v1::GetTopologyResponse response;
  grpc::Status status = v1::AdminService::NewStub(channel)->GetTopology(
      &context, v1::GetTopologyRequest(), &response);
  if (status.ok()) return response;
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE ||
      status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    return absl::UnavailableError(
        absl::StrCat("no coordinator answers at ", address, " (", status.error_message(),
                     "); start one with `coordinatorctl up` or name another with --coordinator"));
  }
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

}  // namespace lockstep::coordinator
