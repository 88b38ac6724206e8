// End tokens and sampling defaults, wherever the files put them.
#include "model/generation_defaults.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockstep::model {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(GenerationDefaultsTest, ReadsAListOfEndTokensAndSampling) {
  GenerationDefaults defaults =
      ParseGenerationDefaults(R"({"eos_token_id": [128001, 128009, 128001], "do_sample": true,
                                  "temperature": 0.6, "top_p": 0.9, "top_k": 50,
                                  "min_p": 0.05, "repetition_penalty": 1.1})",
                              "")
          .value();
  EXPECT_THAT(defaults.eos_token_ids, ElementsAre(128001, 128009));
  EXPECT_EQ(defaults.temperature, 0.6);
  EXPECT_EQ(defaults.top_p, 0.9);
  EXPECT_EQ(defaults.top_k, 50);
  EXPECT_EQ(defaults.min_p, 0.05);
  EXPECT_EQ(defaults.repetition_penalty, 1.1);
}

TEST(GenerationDefaultsTest, EndTokensComeFromConfigJsonWhenTheFileIsSilentOrAbsent) {
  EXPECT_THAT(ParseGenerationDefaults("{}", R"({"eos_token_id": 2})")->eos_token_ids,
              ElementsAre(2));
  EXPECT_THAT(ParseGenerationDefaults("", R"({"eos_token_id": [2, 3]})")->eos_token_ids,
              ElementsAre(2, 3));
  EXPECT_THAT(ParseGenerationDefaults("", "")->eos_token_ids, IsEmpty());
  EXPECT_THAT(
      ParseGenerationDefaults(R"({"eos_token_id": 7})", R"({"eos_token_id": 2})")->eos_token_ids,
      ElementsAre(7));
}

TEST(GenerationDefaultsTest, WithoutSamplingTheTemperatureIsZero) {
  GenerationDefaults defaults =
      ParseGenerationDefaults(R"({"do_sample": false, "temperature": 0.6})", "").value();
  EXPECT_EQ(defaults.temperature, 0);
  EXPECT_FALSE(ParseGenerationDefaults("{}", "")->temperature.has_value());
}

TEST(GenerationDefaultsTest, ImpossibleValuesAreRefusedByFileAndKey) {
  auto refused = [](const char* generation, const char* key) {
    absl::Status status = ParseGenerationDefaults(generation, "").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << generation;
    EXPECT_THAT(std::string(status.message()), HasSubstr("generation_config.json")) << generation;
    EXPECT_THAT(std::string(status.message()), HasSubstr(key)) << generation;
  };
  refused(R"({"eos_token_id": -1})", "eos_token_id");
  refused(R"({"eos_token_id": [1, "2"]})", "eos_token_id");
  refused(R"({"eos_token_id": 4294967296})", "eos_token_id");
  refused(R"({"temperature": -0.1})", "temperature");
  refused(R"({"temperature": "hot"})", "temperature");
  refused(R"({"top_p": 1.5})", "top_p");
  refused(R"({"top_k": 2.5})", "top_k");
  refused(R"({"min_p": -1})", "min_p");
  refused(R"({"repetition_penalty": 0})", "repetition_penalty");
  refused(R"({"do_sample": "yes"})", "do_sample");
  refused("{", "well-formed");
}

}  // namespace
}  // namespace lockstep::model
