// BlockPool: every number once, none lost, misuse ends the program.
#include "coordinator/engine/block_pool.h"

#include <set>

#include "gtest/gtest.h"

namespace lockstep::coordinator {
namespace {

TEST(BlockPoolTest, TokensRoundUpToWholeBlocks) {
  EXPECT_EQ(BlocksFor(0), 0);
  EXPECT_EQ(BlocksFor(1), 1);
  EXPECT_EQ(BlocksFor(16), 1);
  EXPECT_EQ(BlocksFor(17), 2);
}

TEST(BlockPoolTest, HandsOutEveryNumberOnce) {
  BlockPool pool(100);
  std::set<int32_t> seen;
  for (int64_t count : {0, 1, 42, 57}) {
    for (int32_t block : pool.Take(count)) seen.insert(block);
  }
  EXPECT_EQ(seen.size(), 100u);
  EXPECT_EQ(*seen.begin(), 0);
  EXPECT_EQ(*seen.rbegin(), 99);
  EXPECT_EQ(pool.free_blocks(), 0);
  EXPECT_EQ(pool.used_blocks(), 100);
}

TEST(BlockPoolTest, ReturnedBlocksGoOutAgain) {
  BlockPool pool(3);
  std::vector<int32_t> all = pool.Take(3);
  pool.Return(std::vector<int32_t>{all[1]});
  EXPECT_EQ(pool.Take(1), std::vector<int32_t>{all[1]});
  pool.Return(all);
  EXPECT_EQ(pool.used_blocks(), 0);
}

TEST(BlockPoolDeathTest, RefusesMisuse) {
  BlockPool pool(2);
  EXPECT_DEATH(pool.Take(3), "more blocks");
  std::vector<int32_t> one = pool.Take(1);
  pool.Return(one);
  EXPECT_DEATH(pool.Return(one), "returned twice");
  EXPECT_DEATH(pool.Return(std::vector<int32_t>{7}), "no block");
}

}  // namespace
}  // namespace lockstep::coordinator
