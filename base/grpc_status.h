// The one place where Abseil's status becomes gRPC's and back. Their codes are the same numbers.
#ifndef LOCKSTEP_BASE_GRPC_STATUS_H_
#define LOCKSTEP_BASE_GRPC_STATUS_H_

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace lockstep {

grpc::Status ToGrpcStatus(const absl::Status& status);
absl::Status FromGrpcStatus(const grpc::Status& status);

}  // namespace lockstep

#endif  // LOCKSTEP_BASE_GRPC_STATUS_H_
