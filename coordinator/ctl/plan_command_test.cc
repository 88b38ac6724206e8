// The command needs only config.json, and a refusal is a failure with a reason.
#include "coordinator/ctl/plan_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "model/model_examples.h"

namespace lockstep::coordinator {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

class PlanCommandTest : public testing::Test {
 protected:
  PlanCommandTest() {
    options_.model = (std::filesystem::path(testing::TempDir()) / "plan_command_model").string();
    std::filesystem::create_directories(options_.model);
    WriteConfig(model::SmallLlamaConfig());
  }
  ~PlanCommandTest() override { std::filesystem::remove_all(options_.model); }

  void WriteConfig(const std::string& text) const {
    std::ofstream(options_.model + "/config.json") << text;
  }
  int Run() { return RunPlan(options_, out_, err_); }

  PlanOptions options_;
  std::ostringstream out_, err_;
};

TEST_F(PlanCommandTest, PrintsALegalPlanFromConfigJsonAlone) {
  options_.tp = 2;
  options_.pp = 2;
  EXPECT_EQ(Run(), 0);
  EXPECT_THAT(out_.str(), HasSubstr("TP 2 x PP 2: 4 ranks"));
  EXPECT_THAT(err_.str(), IsEmpty());
}

TEST_F(PlanCommandTest, RefusesAnIllegalPlanWithRuleNumbersAndLegalSizes) {
  options_.tp = 3;
  EXPECT_EQ(Run(), 1);
  EXPECT_THAT(out_.str(), IsEmpty());
  EXPECT_THAT(err_.str(), HasSubstr("TP 3 does not divide the 8 attention heads; legal TP sizes: "
                                    "1, 2, 4, 8"));
}

TEST_F(PlanCommandTest, RefusesTooLittleMemory) {
  options_.device_memory = "4MiB";
  EXPECT_EQ(Run(), 1);
  EXPECT_THAT(err_.str(), HasSubstr("of the device's 4.00 MiB"));
}

TEST_F(PlanCommandTest, JsonGoesToTheOutputForPlansAndRefusals) {
  options_.json = true;
  EXPECT_EQ(Run(), 0);
  EXPECT_EQ(nlohmann::json::parse(out_.str())["ranks"].size(), 1u);
  out_.str("");
  options_.pp = 5;
  EXPECT_EQ(Run(), 1);
  EXPECT_THAT(nlohmann::json::parse(out_.str())["refused"].get<std::string>(),
              HasSubstr("PP 5 exceeds the 4 layers"));
}

TEST_F(PlanCommandTest, FlagsThatCannotBeReadAreNamed) {
  options_.device_memory = "much";
  EXPECT_EQ(Run(), 1);
  EXPECT_THAT(err_.str(), HasSubstr("--device-memory: \"much\""));
  options_.device_memory.clear();
  options_.dtype = "int4";
  EXPECT_EQ(Run(), 1);
  EXPECT_THAT(err_.str(), HasSubstr("--dtype is \"int4\""));
}

TEST_F(PlanCommandTest, AModelThatCannotBeReadFailsWithItsPath) {
  WriteConfig("{");
  EXPECT_EQ(Run(), 1);
  EXPECT_THAT(err_.str(), HasSubstr(options_.model + ": config.json is not well-formed JSON"));
  std::filesystem::remove(options_.model + "/config.json");
  EXPECT_EQ(Run(), 1);
  EXPECT_THAT(err_.str(), HasSubstr("config.json does not exist"));
}

}  // namespace
}  // namespace lockstep::coordinator
