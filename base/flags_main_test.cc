// Flags as users type them reach Abseil under its names.
#include "base/flags_main.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(NormalizeFlagsTest, DashesInNamesBecomeUnderscoresAndValuesStay) {
  EXPECT_THAT(*NormalizeFlags({"--max-model-len=4", "--workers-model-dir=/a-b/c-d", "-dry-run"}),
              ElementsAre("--max_model_len=4", "--workers_model_dir=/a-b/c-d", "--dry_run"));
}

TEST(NormalizeFlagsTest, PositionalArgumentsAndWhatFollowsTwoDashesStay) {
  EXPECT_THAT(*NormalizeFlags({"generate", "a-b", "-", "--top-k", "5", "--", "--not-a-flag"}),
              ElementsAre("generate", "a-b", "-", "--top_k", "5", "--", "--not-a-flag"));
}

TEST(NormalizeFlagsTest, LongNamesOfParallelSizesBecomeShortOnes) {
  EXPECT_THAT(*NormalizeFlags({"--tensor-parallel-size=2", "--pipeline_parallel_size", "4"}),
              ElementsAre("--tp=2", "--pp", "4"));
}

TEST(NormalizeFlagsTest, TheSameValueUnderBothNamesIsFine) {
  EXPECT_TRUE(NormalizeFlags({"--tp=2", "--tensor-parallel-size", "2"}).ok());
}

TEST(NormalizeFlagsTest, TwoNamesThatDisagreeAreRefused) {
  absl::Status status = NormalizeFlags({"--tp", "2", "--tensor-parallel-size=4"}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("--tp and --tensor-parallel-size are one flag, given as 2 and as 4"));
}

TEST(InitMainTest, ReturnsPositionalArguments) {
  std::string program = "test", command = "generate", prompt = "once-upon";
  char* argv[] = {program.data(), command.data(), prompt.data(), nullptr};
  EXPECT_THAT(InitMain(3, argv, "test"), ElementsAre("generate", "once-upon"));
}

}  // namespace
}  // namespace lockstep
