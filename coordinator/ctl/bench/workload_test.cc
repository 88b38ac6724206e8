// Claims on a workload: requests repeat with the seed, differ otherwise, and share what they
// should.
#include "coordinator/ctl/bench/workload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace lockstep::coordinator {
namespace {

using ::testing::Each;

std::vector<int32_t> Ids(const v1::GenerateRequest& request) {
  return {request.tokens().ids().begin(), request.tokens().ids().end()};
}

Workload Example() {
  Workload workload;
  workload.prompt_tokens = *LengthDistribution::Parse("uniform:5-20");
  workload.output_tokens = *LengthDistribution::Parse("uniform:1-9");
  workload.vocab_size = 50;
  workload.seed = 3;
  return workload;
}

TEST(WorkloadTest, SameSeedAndNumberGiveTheSameRequestInAnyOrder) {
  const Workload workload = Example();
  const v1::GenerateRequest third = MakeRequest(workload, 3);
  MakeRequest(workload, 0);
  EXPECT_EQ(MakeRequest(workload, 3).SerializeAsString(), third.SerializeAsString());
}

TEST(WorkloadTest, OtherNumbersAndOtherSeedsGiveOtherPrompts) {
  Workload workload = Example();
  std::set<std::vector<int32_t>> prompts;
  for (uint64_t seed : {3, 4}) {
    workload.seed = seed;
    for (int index = 0; index < 50; ++index) prompts.insert(Ids(MakeRequest(workload, index)));
  }
  EXPECT_EQ(prompts.size(), 100);
}

TEST(WorkloadTest, LengthsAndIdsStayWithinWhatWasAsked) {
  const Workload workload = Example();
  std::set<int64_t> prompt_lengths;
  std::set<int64_t> output_lengths;
  for (int index = 0; index < 500; ++index) {
    const v1::GenerateRequest request = MakeRequest(workload, index);
    prompt_lengths.insert(request.tokens().ids_size());
    output_lengths.insert(request.max_tokens());
    EXPECT_THAT(Ids(request), Each(::testing::AllOf(::testing::Ge(0), ::testing::Lt(50))));
  }
  EXPECT_EQ(prompt_lengths.size(), 16);
  EXPECT_EQ(*prompt_lengths.begin(), 5);
  EXPECT_EQ(output_lengths.size(), 9);
}

TEST(WorkloadTest, RequestsOfOnePrefixBeginAlikeAndOnlyThere) {
  Workload workload = Example();
  workload.prompt_tokens = LengthDistribution(8);
  workload.shared_prefix_tokens = 30;
  workload.prefixes = 2;
  auto part = [&](int index, int begin, int end) {
    const std::vector<int32_t> ids = Ids(MakeRequest(workload, index));
    EXPECT_EQ(ids.size(), 38);
    return std::vector<int32_t>(ids.begin() + begin, ids.begin() + end);
  };
  EXPECT_EQ(part(0, 0, 30), part(2, 0, 30));
  EXPECT_NE(part(0, 0, 30), part(1, 0, 30));
  EXPECT_NE(part(0, 30, 38), part(2, 30, 38));
}

TEST(WorkloadTest, SamplingIsTheModelsUnlessSaidAndAlwaysSeeded) {
  Workload workload = Example();
  EXPECT_FALSE(MakeRequest(workload, 0).sampling().has_temperature());
  EXPECT_FALSE(MakeRequest(workload, 0).ignore_eos());
  workload.temperature = 0;
  workload.ignore_eos = true;
  const v1::GenerateRequest request = MakeRequest(workload, 0);
  EXPECT_TRUE(request.sampling().has_temperature());
  EXPECT_EQ(request.sampling().temperature(), 0);
  EXPECT_TRUE(request.ignore_eos());
  EXPECT_NE(request.sampling().seed(), MakeRequest(workload, 1).sampling().seed());
}

}  // namespace
}  // namespace lockstep::coordinator
