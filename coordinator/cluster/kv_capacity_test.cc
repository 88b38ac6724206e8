// Block counts from literal memory sizes.
#include "coordinator/cluster/kv_capacity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockstep::coordinator {
namespace {

using ::testing::HasSubstr;

/// Two ranks: weights 1000 and 3000 bytes, activations 200, 10 bytes of KV a token (160 a block).
model::ParallelPlan TwoRanks() {
  model::ParallelPlan plan;
  plan.request.memory_fraction = 0.5;
  plan.context_tokens = 33;  // three blocks
  for (int rank = 0; rank < 2; ++rank) {
    plan.ranks.push_back({.rank = rank,
                          .weight_bytes = 1000 + 2000 * rank,
                          .kv_bytes_per_token = 10,
                          .activation_bytes = 200});
  }
  return plan;
}

std::vector<WorkerInfo> WithMemory(int64_t bytes0, int64_t bytes1) {
  return {{.node = "a", .device = "cpu:0", .memory_bytes = bytes0},
          {.node = "b", .device = "cpu:1", .memory_bytes = bytes1}};
}

TEST(KvCapacityTest, TheRankWithTheLeastRoomDecides) {
  // Rank 1: 10000 * 0.5 - 3000 - 200 = 1800 bytes, 11 blocks.
  EXPECT_EQ(KvBlocksFor(TwoRanks(), WithMemory(10000, 10000), 32).value(), 11);
}

TEST(KvCapacityTest, NoMoreThanAllSequencesAtFullLengthTake) {
  EXPECT_EQ(KvBlocksFor(TwoRanks(), WithMemory(1 << 30, 1 << 30), 4).value(), 12);
}

TEST(KvCapacityTest, ExactlyOneContextIsEnoughAndABlockLessIsNot) {
  const int64_t enough = 2 * (3000 + 200 + 3 * 160);
  EXPECT_EQ(KvBlocksFor(TwoRanks(), WithMemory(1 << 20, enough), 4).value(), 3);
  EXPECT_FALSE(KvBlocksFor(TwoRanks(), WithMemory(1 << 20, enough - 2), 4).ok());
}

TEST(KvCapacityTest, RefusalNamesTheRankTheNumbersAndTheFlag) {
  absl::Status status =
      KvBlocksFor(TwoRanks(), WithMemory(1 << 20, 2 * (3200 + 2 * 160)), 4).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  std::string message(status.message());
  EXPECT_THAT(message, HasSubstr("rank 1 (cpu:1 on node b)"));
  EXPECT_THAT(message, HasSubstr("leaves 2 KV blocks of 16 tokens"));
  EXPECT_THAT(message, HasSubstr("one sequence of 33 tokens takes 3"));
  EXPECT_THAT(message, HasSubstr("--max-model-len up to 32"));
}

TEST(KvCapacityTest, MemoryBelowTheWeightsAsksForMoreRanks) {
  absl::Status status = KvBlocksFor(TwoRanks(), WithMemory(1 << 20, 100), 4).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("a larger --tp or --pp"));
}

}  // namespace
}  // namespace lockstep::coordinator
