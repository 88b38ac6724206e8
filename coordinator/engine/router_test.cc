// ChooseReplica(): literal views and the choice that they must lead to.
#include "coordinator/engine/router.h"

#include <vector>

#include "gtest/gtest.h"

namespace lockstep::coordinator {
namespace {

size_t Choose(std::vector<ReplicaView> replicas) { return ChooseReplica(replicas); }

TEST(RouterTest, TheOnlyReplicaIsChosenWhateverItsState) {
  EXPECT_EQ(Choose({{.formed = false, .queue_full = true, .load = 99}}), 0u);
}

TEST(RouterTest, TheLeastLoadedOfEqualsIsChosenAndTheFirstOfTheseFirst) {
  EXPECT_EQ(
      Choose(
          {{.formed = true, .load = 3}, {.formed = true, .load = 1}, {.formed = true, .load = 1}}),
      1u);
}

TEST(RouterTest, TheOneWithMoreOfThePromptCachedComesBeforeTheIdlerOne) {
  EXPECT_EQ(Choose({{.formed = true, .load = 0, .cached_tokens = 16},
                    {.formed = true, .load = 5, .cached_tokens = 64}}),
            1u);
}

TEST(RouterTest, AffinityEndsWhereTheCachedOneIsMuchBusier) {
  EXPECT_EQ(Choose({{.formed = true, .load = 0},
                    {.formed = true, .load = kLoadSlack + 1, .cached_tokens = 640}}),
            0u);
  EXPECT_EQ(Choose({{.formed = true, .load = 100},
                    {.formed = true, .load = 150 + kLoadSlack, .cached_tokens = 640}}),
            1u);
}

TEST(RouterTest, AReplicaWithoutGroupIsLeftOutAsLongAsAnotherHasOne) {
  EXPECT_EQ(
      Choose({{.formed = false, .load = 0, .cached_tokens = 640}, {.formed = true, .load = 50}}),
      1u);
  EXPECT_EQ(Choose({{.formed = false, .load = 2}, {.formed = false, .load = 1}}), 1u);
}

TEST(RouterTest, AFullQueueIsLeftOutAsLongAsAnotherHasRoom) {
  EXPECT_EQ(Choose({{.formed = true, .queue_full = true, .load = 10, .cached_tokens = 640},
                    {.formed = true, .load = 50}}),
            1u);
  EXPECT_EQ(
      Choose({{.formed = true, .queue_full = true, .load = 10}, {.formed = false, .load = 20}}),
      1u);
}

}  // namespace
}  // namespace lockstep::coordinator
