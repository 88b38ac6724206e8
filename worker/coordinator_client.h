// The two streams that a worker opens to its coordinator, as interfaces: all of gRPC lies behind
// Dial.
#ifndef LOCKSTEP_WORKER_COORDINATOR_CLIENT_H_
#define LOCKSTEP_WORKER_COORDINATOR_CLIENT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/lockstep/v1/cluster.pb.h"

namespace lockstep::worker {

/// The control stream. Send is thread-safe; one thread receives; Cancel may come from any.
class JoinStream {
 public:
  virtual ~JoinStream() = default;
  /// Blocks while the connection is full. False once the stream is broken.
  virtual bool Send(const v1::JoinRequest& message) = 0;
  /// Blocks for the next message. nullopt when the stream has ended: see Finish.
  virtual std::optional<v1::JoinResponse> Receive() = 0;
  /// After Receive gave nullopt: why. OK when the coordinator ended it in good order.
  virtual absl::Status Finish() = 0;
  /// Ends the stream at once; blocked calls return.
  virtual void Cancel() = 0;
};

/// The data stream of one epoch. One thread takes batches and gives results; Cancel may come from
/// any.
class BatchStream {
 public:
  virtual ~BatchStream() = default;
  /// Blocks for the next batch. nullopt when the coordinator ended the stream in good order.
  virtual absl::StatusOr<std::optional<v1::StepBatch>> Next() = 0;
  /// Never blocks: the result is sent from a thread of the stream's. If that fails, Next says why.
  virtual void Give(v1::StepResult result) = 0;
  virtual void Cancel() = 0;
};

/// Thread-safe. Streams may outlive it.
class CoordinatorClient {
 public:
  virtual ~CoordinatorClient() = default;
  virtual std::unique_ptr<JoinStream> Join() = 0;
  /// On a connection of its own, with the hello sent: the compute thread itself reads and writes
  /// it, so that no other thread needs a processor between two steps.
  virtual std::unique_ptr<BatchStream> Execute(uint64_t epoch, uint32_t rank) = 0;
};

/// `address`: HOST:PORT. Connects when the first stream is opened; plain text.
std::unique_ptr<CoordinatorClient> Dial(const std::string& address);

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_COORDINATOR_CLIENT_H_
