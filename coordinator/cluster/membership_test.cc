// What may register, and what is remembered of it.
#include "coordinator/cluster/membership.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/version.h"

namespace lockstep::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::Register Valid() {
  v1::Register message;
  message.set_protocol_version(kProtocolVersion);
  message.set_worker_id("w");
  message.set_node("a");
  message.set_shm_domain("nonce");
  message.set_device("cpu:0");
  message.set_memory_bytes(1 << 30);
  return message;
}

TEST(CheckRegisterTest, AnotherProtocolVersionIsRefusedWithBothNumbers) {
  v1::Register message = Valid();
  message.set_protocol_version(99);
  absl::Status status = CheckRegister(message).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("version 99, this coordinator version "));
}

TEST(CheckRegisterTest, EveryMissingFieldIsRefusedByItsName) {
  const auto refusal = [](auto clear) {
    v1::Register message = Valid();
    clear(message);
    absl::Status status = CheckRegister(message).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_THAT(refusal([](v1::Register& m) { m.clear_worker_id(); }), HasSubstr("worker_id"));
  EXPECT_THAT(refusal([](v1::Register& m) { m.clear_node(); }), HasSubstr("node"));
  EXPECT_THAT(refusal([](v1::Register& m) { m.clear_shm_domain(); }), HasSubstr("shm_domain"));
  EXPECT_THAT(refusal([](v1::Register& m) { m.clear_device(); }), HasSubstr("device"));
  EXPECT_THAT(refusal([](v1::Register& m) { m.clear_memory_bytes(); }), HasSubstr("memory_bytes"));
  EXPECT_THAT(refusal([](v1::Register& m) { m.set_memory_bytes(UINT64_MAX); }),
              HasSubstr("memory_bytes"));
}

TEST(MembershipTest, AnEpochExceedsTheOneBeforeAndTheHighestOfAWorkerThatIsGone) {
  Membership membership;
  membership.Add(MemberId{1}, {.highest_epoch = 7}, absl::UnixEpoch());
  membership.Add(MemberId{2}, {.highest_epoch = 3}, absl::UnixEpoch());
  EXPECT_TRUE(membership.Remove(MemberId{1}));
  EXPECT_FALSE(membership.Remove(MemberId{1}));
  EXPECT_THAT(membership.Ids(), ElementsAre(MemberId{2}));
  EXPECT_EQ(membership.TakeEpoch(), 8u);
  EXPECT_EQ(membership.TakeEpoch(), 9u);
}

TEST(MembershipTest, WorkersOfAReplicaAreFreeAgainWhenItLetsGoOfThem) {
  Membership membership;
  for (uint64_t id : {1, 2, 3}) membership.Add(MemberId{id}, {}, absl::UnixEpoch());
  membership.Claim(MemberId{1}, 0);
  membership.Claim(MemberId{3}, 1);
  EXPECT_THAT(membership.FreeIds(), ElementsAre(MemberId{2}));
  membership.Release(1);
  EXPECT_THAT(membership.FreeIds(), ElementsAre(MemberId{2}, MemberId{3}));
}

}  // namespace
}  // namespace lockstep::coordinator
