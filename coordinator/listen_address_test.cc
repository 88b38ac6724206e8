// Which addresses are legal after --listen, and which of them are loopback.
#include "coordinator/listen_address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockstep::coordinator {
namespace {

TEST(ListenAddressTest, SplitsHostAndPort) {
  EXPECT_EQ(ParseListenAddress("127.0.0.1:50051")->port, 50051);
  EXPECT_EQ(ParseListenAddress("[::1]:0")->host, "[::1]");
  EXPECT_EQ(ParseListenAddress("gpu7:9")->ToString(), "gpu7:9");
}

TEST(ListenAddressTest, OnlyThisMachineIsLoopback) {
  for (const char* text : {"127.0.0.1:1", "127.1.2.3:1", "localhost:1", "[::1]:1"}) {
    EXPECT_TRUE(ParseListenAddress(text)->is_loopback) << text;
  }
  for (const char* text : {"0.0.0.0:1", "10.0.0.1:1", "[::]:1", "gpu7:1", "localhost.evil.net:1"}) {
    EXPECT_FALSE(ParseListenAddress(text)->is_loopback) << text;
  }
}

TEST(ListenAddressTest, WhatIsNoAddressIsRefusedAndQuoted) {
  for (const char* text : {"", "127.0.0.1", ":50051", "host:", "host:x", "host:-1", "host:65536",
                           "::1:50051", "[::1:5", "::1]:5"}) {
    absl::Status status = ParseListenAddress(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr(text));
  }
}

}  // namespace
}  // namespace lockstep::coordinator
