// Communicators of literal placements.
#include "coordinator/cluster/rank_groups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockstep::coordinator {
namespace {

using ::testing::ElementsAre;

std::vector<WorkerInfo> OnNodes(const std::string& nodes) {
  std::vector<WorkerInfo> workers;
  for (char node : nodes) {
    workers.push_back({.node = std::string(1, node), .shm_domain = std::string(1, node)});
  }
  return workers;
}

/// "tp0 shm 0 1": name, transport, ranks.
std::vector<std::string> Groups(const std::string& nodes, int tp_size, int pp_size) {
  std::vector<std::string> texts;
  for (const RankGroupSpec& group : MakeRankGroups(OnNodes(nodes), tp_size, pp_size)) {
    std::string text = group.name;
    text += group.transport == v1::TRANSPORT_SOLO  ? " solo"
            : group.transport == v1::TRANSPORT_SHM ? " shm"
                                                   : " tcp";
    for (int rank : group.ranks) text += " " + std::to_string(rank);
    texts.push_back(text);
  }
  return texts;
}

TEST(RankGroupsTest, OneRankIsSolo) { EXPECT_THAT(Groups("a", 1, 1), ElementsAre("tp0 solo 0")); }

TEST(RankGroupsTest, OneStageHasNoStageGroups) {
  EXPECT_THAT(Groups("aa", 2, 1), ElementsAre("tp0 shm 0 1"));
}

TEST(RankGroupsTest, EachTpRankHasItsOwnWayThroughTheStages) {
  EXPECT_THAT(Groups("aabb", 2, 2), ElementsAre("tp0 shm 0 1", "tp1 shm 2 3", "pp0 tcp 0 2",
                                                "ret0 tcp 0 2", "pp1 tcp 1 3", "ret1 tcp 1 3"));
}

TEST(RankGroupsTest, StagesOnOneNodeSpeakThroughSharedMemory) {
  EXPECT_THAT(Groups("aa", 1, 2),
              ElementsAre("tp0 solo 0", "tp1 solo 1", "pp0 shm 0 1", "ret0 shm 0 1"));
}

TEST(RankGroupsTest, ATensorGroupOverNodesSpeaksTcp) {
  EXPECT_THAT(Groups("ab", 2, 1), ElementsAre("tp0 tcp 0 1"));
}

TEST(RankGroupsTest, GroupsTellActivationsFromTokens) {
  std::vector<RankGroupSpec> groups = MakeRankGroups(OnNodes("ab"), 1, 2);
  EXPECT_EQ(groups[0].purpose, v1::CollectiveGroup::PURPOSE_TENSOR);
  EXPECT_EQ(groups[2].purpose, v1::CollectiveGroup::PURPOSE_ACTIVATIONS);
  EXPECT_EQ(groups[3].purpose, v1::CollectiveGroup::PURPOSE_TOKENS);
}

}  // namespace
}  // namespace lockstep::coordinator
