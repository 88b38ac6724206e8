// By gRPC's own traits for protobuf.
#include "coordinator/serve/wire_message.h"

#include <glog/logging.h>
#include <grpcpp/impl/codegen/proto_utils.h>

#include "absl/strings/str_cat.h"

namespace lockstep::coordinator {

absl::Status ParseMessage(const grpc::ByteBuffer& bytes, google::protobuf::Message& message) {
  // Shares the slices; parsing empties the copy.
  grpc::ByteBuffer copy = bytes;
  if (grpc::GenericDeserialize<grpc::ProtoBufferReader, google::protobuf::Message>(&copy, &message)
          .ok()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("the ", bytes.Length(), " bytes of the request are no ", message.GetTypeName(),
                   ": malformed, or a string in it is not UTF-8"));
}

grpc::ByteBuffer SerializeMessage(const google::protobuf::Message& message) {
  grpc::ByteBuffer bytes;
  bool owned = false;
  const grpc::Status status =
      grpc::GenericSerialize<grpc::ProtoBufferWriter, google::protobuf::Message>(message, &bytes,
                                                                                 &owned);
  CHECK(status.ok()) << status.error_message();
  return bytes;
}

}  // namespace lockstep::coordinator
