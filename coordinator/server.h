// The coordinator as one object: engine, cluster, services and the gRPC server in front of them.
#ifndef LOCKSTEP_COORDINATOR_SERVER_H_
#define LOCKSTEP_COORDINATOR_SERVER_H_

#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "coordinator/engine/group_engine.h"
#include "coordinator/listen_address.h"
#include "coordinator/model_set_up.h"

namespace lockstep::coordinator {

class Server {
 public:
  /// Stops.
  virtual ~Server() = default;
  /// Where it listens, with the port that was chosen: for gRPC, and for HTTP if asked to.
  virtual const ListenAddress& address() const = 0;
  virtual const std::optional<ListenAddress>& http_address() const = 0;
  /// Sends the workers home, ends the clients' calls with Unavailable and waits, about a second at
  /// most, until all have gone. Idempotent.
  virtual void Stop() = 0;
};

/// Starts to listen, in plain text, for workers, clients and coordinatorctl at `address`, and for
/// HTTP clients at `http`. InvalidArgument when an address cannot be had.
absl::StatusOr<std::unique_ptr<Server>> StartServer(ModelSetUp model, const EngineOptions& engine,
                                                    const ListenAddress& address,
                                                    const std::optional<ListenAddress>& http = {});

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_SERVER_H_
