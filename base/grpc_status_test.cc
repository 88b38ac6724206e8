// Codes and messages survive the way to gRPC and back.
#include "base/grpc_status.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

TEST(GrpcStatusTest, EveryCodeComesBackWithItsMessage) {
  for (int code = 0; code <= 16; ++code) {
    absl::Status status(static_cast<absl::StatusCode>(code), code == 0 ? "" : "why");
    grpc::Status over_the_wire = ToGrpcStatus(status);
    EXPECT_EQ(over_the_wire.error_code(), code);
    EXPECT_EQ(FromGrpcStatus(over_the_wire), status);
  }
}

}  // namespace
}  // namespace lockstep
