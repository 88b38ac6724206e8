// Patterns match module names component by component.
#include "model/tp_plan.h"

#include <gtest/gtest.h>

#include "model/model_examples.h"

namespace lockstep::model {
namespace {

TEST(TpPlanTest, LlamasDefaultIsThatOfTransformers) {
  TpPlan plan = DefaultTpPlan(SpecOf(SmallLlamaConfig()));
  auto style = [&](const char* tensor) { return std::string(Name(StyleOf(plan, tensor))); };
  EXPECT_EQ(style("model.layers.3.self_attn.q_proj.weight"), "colwise");
  EXPECT_EQ(style("model.layers.3.self_attn.k_proj.weight"), "colwise");
  EXPECT_EQ(style("model.layers.3.self_attn.v_proj.weight"), "colwise");
  EXPECT_EQ(style("model.layers.3.self_attn.o_proj.weight"), "rowwise");
  EXPECT_EQ(style("model.layers.12.mlp.gate_proj.weight"), "colwise");
  EXPECT_EQ(style("model.layers.12.mlp.up_proj.weight"), "colwise");
  EXPECT_EQ(style("model.layers.12.mlp.down_proj.weight"), "rowwise");
  EXPECT_EQ(style("model.layers.12.input_layernorm.weight"), "replicate");
  EXPECT_EQ(style("model.embed_tokens.weight"), "vocab_parallel");
  EXPECT_EQ(style("lm_head.weight"), "colwise_gather_output");
}

TEST(TpPlanTest, AStarStandsForExactlyOneComponent) {
  TpPlan plan = {{"a.*.b", TpStyle::kColwise}};
  EXPECT_EQ(StyleOf(plan, "a.7.b.weight"), TpStyle::kColwise);
  EXPECT_EQ(StyleOf(plan, "a.b.weight"), TpStyle::kReplicate);
  EXPECT_EQ(StyleOf(plan, "a.7.8.b.weight"), TpStyle::kReplicate);
  EXPECT_EQ(StyleOf(plan, "a.7.b.c.weight"), TpStyle::kReplicate);
  EXPECT_EQ(StyleOf(plan, "a.7"), TpStyle::kReplicate);
  EXPECT_EQ(StyleOf(plan, ""), TpStyle::kReplicate);
}

TEST(TpPlanTest, TheFirstMatchingRuleHolds) {
  TpPlan plan = {{"m.*.p", TpStyle::kRowwise}, {"m.0.p", TpStyle::kColwise}};
  EXPECT_EQ(StyleOf(plan, "m.0.p.weight"), TpStyle::kRowwise);
}

}  // namespace
}  // namespace lockstep::model
