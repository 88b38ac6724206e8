// Suggestions are near and few.
#include "model/near_names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockstep::model {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(NearNamesTest, TheNearestComeFirstAndAtMostThree) {
  EXPECT_THAT(NearNames("layer.10.weight", {"layer.1.weight", "layer.10.weigth", "unrelated",
                                            "layer.12.weight", "layer.100.weight"}),
              ElementsAre("layer.1.weight", "layer.12.weight", "layer.100.weight"));
}

TEST(NearNamesTest, FarNamesAreNotSuggested) {
  EXPECT_THAT(NearNames("lm_head.weight", {"model.embed_tokens.weight", "norm"}), IsEmpty());
  EXPECT_THAT(NearNames("", {"a"}), IsEmpty());
}

}  // namespace
}  // namespace lockstep::model
