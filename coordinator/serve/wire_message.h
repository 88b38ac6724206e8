// Protobuf messages from and to gRPC's bytes, by hand: gRPC itself answers a request that it cannot
// parse with UNIMPLEMENTED and no word, which says nothing to the client that sent it.
#ifndef LOCKSTEP_COORDINATOR_SERVE_WIRE_MESSAGE_H_
#define LOCKSTEP_COORDINATOR_SERVE_WIRE_MESSAGE_H_

#include <google/protobuf/message.h>
#include <grpcpp/support/byte_buffer.h>

#include "absl/status/status.h"

namespace lockstep::coordinator {

/// InvalidArgument, naming the message's type, for bytes that are no such message; a string that is
/// not UTF-8 is among these.
absl::Status ParseMessage(const grpc::ByteBuffer& bytes, google::protobuf::Message& message);

/// Never fails for messages below 2 GiB.
grpc::ByteBuffer SerializeMessage(const google::protobuf::Message& message);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_SERVE_WIRE_MESSAGE_H_
