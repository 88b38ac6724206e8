// Ranks from literal sets of workers.
#include "coordinator/cluster/placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace lockstep::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

WorkerInfo Worker(const std::string& node, uint32_t local_index) {
  return {.worker_id = node + std::to_string(local_index),
          .node = node,
          .shm_domain = "nonce-" + node,
          .device = "cpu:" + std::to_string(local_index),
          .local_index = local_index,
          .memory_bytes = 1 << 30};
}

std::vector<std::string> Ranks(const std::vector<WorkerInfo>& workers,
                               const PlacementRequest& request) {
  absl::StatusOr<std::vector<size_t>> ranks = PlaceRanks(workers, request);
  if (!ranks.ok()) return {std::string(ranks.status().message())};
  std::vector<std::string> names;
  for (size_t worker : *ranks) names.push_back(workers[worker].worker_id);
  return names;
}

std::string Refusal(const std::vector<WorkerInfo>& workers, const PlacementRequest& request) {
  absl::Status status = PlaceRanks(workers, request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  return std::string(status.message());
}

TEST(PlacementTest, RanksOfANodeFollowLocalIndexNotRegistration) {
  EXPECT_THAT(Ranks({Worker("a", 2), Worker("a", 0), Worker("a", 1)}, {.tp_size = 3}),
              ElementsAre("a0", "a1", "a2"));
}

TEST(PlacementTest, EveryOrderOfRegistrationGivesTheSameRanks) {
  std::vector<int> order = {0, 1, 2, 3};
  const std::vector<WorkerInfo> workers = {Worker("a", 0), Worker("a", 1), Worker("b", 0),
                                           Worker("b", 1)};
  do {
    std::vector<WorkerInfo> shuffled;
    for (int i : order) shuffled.push_back(workers[i]);
    EXPECT_THAT(Ranks(shuffled, {.tp_size = 2, .pp_size = 2}), ElementsAre("a0", "a1", "b0", "b1"));
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST(PlacementTest, NodesAreTakenByTheirLowestLocalIndexBeforeTheirName) {
  EXPECT_THAT(
      Ranks({Worker("north", 2), Worker("north", 3), Worker("south", 0), Worker("south", 1)},
            {.tp_size = 2, .pp_size = 2}),
      ElementsAre("south0", "south1", "north2", "north3"));
}

TEST(PlacementTest, StagesFillANodeBeforeTheNext) {
  EXPECT_THAT(Ranks({Worker("a", 0), Worker("b", 0), Worker("a", 1), Worker("b", 1)},
                    {.tp_size = 1, .pp_size = 3}),
              ElementsAre("a0", "a1", "b0"));
}

TEST(PlacementTest, AWorkerThatCompletesNoStageIsASpare) {
  EXPECT_THAT(
      Ranks({Worker("a", 0), Worker("b", 0), Worker("b", 1), Worker("a", 1), Worker("a", 2)},
            {.tp_size = 2, .pp_size = 2}),
      ElementsAre("a0", "a1", "b0", "b1"));
}

TEST(PlacementTest, TheSameNodeNameInTwoMemoryDomainsIsTwoNodes) {
  std::vector<WorkerInfo> workers = {Worker("a", 0), Worker("a", 1)};
  workers[1].shm_domain = "another container";
  EXPECT_FALSE(PlaceRanks(workers, {.tp_size = 2}).ok());
}

TEST(PlacementTest, TpCrossesNodesOnlyWhenAllowedAndThenFillsWholeStagesFirst) {
  const std::vector<WorkerInfo> workers = {Worker("a", 0), Worker("b", 0), Worker("b", 1),
                                           Worker("b", 2)};
  EXPECT_FALSE(PlaceRanks(workers, {.tp_size = 2, .pp_size = 2}).ok());
  EXPECT_THAT(Ranks(workers, {.tp_size = 2, .pp_size = 2, .allow_cross_node_tp = true}),
              ElementsAre("b0", "b1", "a0", "b2"));
}

TEST(PlacementTest, AllowedCrossNodeTpTakesNodesInOrder) {
  EXPECT_THAT(Ranks({Worker("b", 0), Worker("a", 1), Worker("a", 0), Worker("b", 1)},
                    {.tp_size = 4, .allow_cross_node_tp = true}),
              ElementsAre("a0", "a1", "b0", "b1"));
}

TEST(PlacementTest, SaysHowManyWorkersAreMissing) {
  EXPECT_THAT(Refusal({}, {.tp_size = 1, .pp_size = 2}),
              HasSubstr("waiting for 2 more workers; none is registered"));
  EXPECT_THAT(Refusal({Worker("a", 0)}, {.tp_size = 1, .pp_size = 2}),
              HasSubstr("waiting for 1 more worker; 1 is registered: 1 on a"));
}

TEST(PlacementTest, SaysOnWhichNodeTheyAreMissing) {
  EXPECT_THAT(
      Refusal({Worker("a", 0), Worker("a", 1), Worker("b", 0)}, {.tp_size = 2, .pp_size = 2}),
      HasSubstr("waiting for 1 more worker (1 on node b)"));
}

TEST(PlacementTest, EnoughWorkersOnTooSmallNodesNameTheRuleTheNumbersAndTheLegalSize) {
  std::string refusal = Refusal({Worker("a", 0), Worker("b", 0)}, {.tp_size = 2});
  EXPECT_THAT(refusal, HasSubstr("TP 2 stays inside a node unless --allow-cross-node-tp"));
  EXPECT_THAT(refusal, HasSubstr("2 are registered: 1 on a, 1 on b"));
  EXPECT_THAT(refusal, HasSubstr("legal on these nodes: TP up to 1"));
}

}  // namespace
}  // namespace lockstep::coordinator
