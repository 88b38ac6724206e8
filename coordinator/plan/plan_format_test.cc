// What is shown is what the plan says, in both forms.
#include "coordinator/plan/plan_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "coordinator/plan/text_table.h"
#include "model/model_examples.h"

namespace lockstep::coordinator {
namespace {

using testing::HasSubstr;

class PlanFormatTest : public testing::Test {
 protected:
  PlanFormatTest() {
    request_.tp_size = 8;
    request_.pp_size = 4;
    request_.devices_per_node = 8;
    request_.context_tokens = 8192;
    request_.concurrency = 32;
    request_.device_memory_bytes = int64_t{80} << 30;
  }
  model::ParallelPlan Plan() const { return model::MakeParallelPlan(spec_, request_).value(); }

  model::DecoderSpec spec_ = model::SpecOf(model::Llama70bConfig());
  model::PlanRequest request_;
};

TEST_F(PlanFormatTest, TableHasOneLinedUpRowPerRank) {
  std::string text = FormatPlan(spec_, Plan());
  EXPECT_THAT(text, HasSubstr("80 layers, 64 heads of 128, 8 KV heads"));
  EXPECT_THAT(text, HasSubstr("TP 8 x PP 4: 32 ranks on 4 nodes of 8 devices, bf16, 80.00 GiB"));
  EXPECT_THAT(text, HasSubstr("\n0     0     0      0-19    0   0-7    0         0-3583 "));
  EXPECT_THAT(text,
              HasSubstr("\n31    3     3      60-79   7   56-63  7         25088-28671  head"));
  EXPECT_THAT(text, HasSubstr("(asked for 32)"));
}

TEST_F(PlanFormatTest, JsonCarriesEveryRankInNumbers) {
  model::ParallelPlan plan = Plan();
  nlohmann::json json = nlohmann::json::parse(FormatPlanJson(spec_, plan));
  EXPECT_EQ(json["blocks_wanted"], 32 * 512);
  EXPECT_EQ(json["kv_blocks"], plan.kv_blocks);
  ASSERT_EQ(json["ranks"].size(), 32u);
  const nlohmann::json& rank = json["ranks"][9];
  EXPECT_EQ(rank["node"], 1);
  EXPECT_EQ(rank["layers"], nlohmann::json({20, 40}));
  EXPECT_EQ(rank["heads"], nlohmann::json({8, 16}));
  EXPECT_EQ(rank["ffn_columns"], nlohmann::json({3584, 7168}));
  EXPECT_EQ(rank["weight_bytes"], plan.ranks[9].weight_bytes);
  EXPECT_EQ(rank["total_bytes"], plan.ranks[9].total_bytes());
}

TEST_F(PlanFormatTest, RefusalJsonListsTheLegalSizes) {
  request_.tp_size = 3;
  absl::Status refusal = model::MakeParallelPlan(spec_, request_).status();
  nlohmann::json json = nlohmann::json::parse(FormatRefusalJson(spec_, request_, refusal));
  EXPECT_THAT(json["refused"].get<std::string>(), HasSubstr("TP 3 does not divide"));
  EXPECT_EQ(json["legal_tp_sizes"], nlohmann::json({1, 2, 4, 8}));
  EXPECT_EQ(json["legal_pp_sizes"].size(), 80u);
}

TEST(TextTableTest, CellsLineUpWithoutTrailingSpaces) {
  EXPECT_EQ(FormatTextTable({{"A", "LONG"}, {"longer", "b"}, {"x"}}),
            "A       LONG\nlonger  b\nx\n");
  EXPECT_EQ(FormatTextTable({}), "");
}

}  // namespace
}  // namespace lockstep::coordinator
