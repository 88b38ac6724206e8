// Claims on how `up` divides a machine among ranks.
#include "coordinator/ctl/up_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockstep::coordinator {
namespace {

using ::testing::ElementsAre;

TEST(ShareCpusTest, EveryCpuGoesToOneRankInEqualContiguousShares) {
  EXPECT_THAT(ShareCpus({0, 1, 2, 3}, 2), ElementsAre("0,1", "2,3"));
  EXPECT_THAT(ShareCpus({0, 1, 2, 3, 4}, 2), ElementsAre("0,1", "2,3,4"));
  EXPECT_THAT(ShareCpus({4, 6}, 1), ElementsAre("4,6"));
}

TEST(ShareCpusTest, MoreRanksThanCpusTakeThemInTurn) {
  EXPECT_THAT(ShareCpus({0, 1}, 4), ElementsAre("0", "1", "0", "1"));
}

TEST(NodeOfRankTest, NodesHoldContiguousRanks) {
  EXPECT_THAT(NodeOfRank(4, 2), ElementsAre("node0", "node0", "node1", "node1"));
  EXPECT_THAT(NodeOfRank(2, 1), ElementsAre("node0", "node0"));
}

}  // namespace
}  // namespace lockstep::coordinator
