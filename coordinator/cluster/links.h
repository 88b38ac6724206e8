// What the cluster needs of a worker's two streams. Implemented over gRPC in streams.h.
#ifndef LOCKSTEP_COORDINATOR_CLUSTER_LINKS_H_
#define LOCKSTEP_COORDINATOR_CLUSTER_LINKS_H_

#include <grpcpp/support/byte_buffer.h>

#include "absl/status/status.h"
#include "proto/lockstep/v1/cluster.pb.h"

namespace lockstep::coordinator {

/// The way down of a Join stream. Thread-safe; never blocks and never calls back.
class ControlLink {
 public:
  virtual ~ControlLink() = default;
  /// In order; dropped when the stream has ended.
  virtual void Send(v1::JoinResponse message) = 0;
  /// Ends the stream with `status` after what was sent.
  virtual void Close(const absl::Status& status) = 0;
};

/// The way down of an Execute stream; the same promises.
class BatchLink {
 public:
  virtual ~BatchLink() = default;
  /// `response` is a serialised ExecuteResponse; its bytes are shared, not copied.
  virtual void Send(grpc::ByteBuffer response) = 0;
  virtual void Close(const absl::Status& status) = 0;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CLUSTER_LINKS_H_
