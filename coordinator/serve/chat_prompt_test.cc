// RenderChat with the demo model's template.
#include "coordinator/serve/chat_prompt.h"

#include "coordinator/serve/field_error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lockstep::coordinator {
namespace {

using ::testing::HasSubstr;

class ChatPromptTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    template_ = text::ChatTemplate::Load("models/demo").value().release();
  }
  static void TearDownTestSuite() { delete template_; }

  void Say(const std::string& role, const std::string& content) {
    v1::ChatMessage* message = request_.add_messages();
    message->set_role(role);
    message->set_content(content);
  }
  absl::Status Refusal() const { return RenderChat(request_, template_).status(); }

  static const text::ChatTemplate* template_;
  v1::ChatRequest request_;
};
const text::ChatTemplate* ChatPromptTest::template_ = nullptr;

TEST_F(ChatPromptTest, TheTemplateWritesThePromptAndItsSpecialTokens) {
  Say("user", "An \"owl\"\n");
  request_.mutable_generation()->set_max_tokens(5);
  const v1::GenerateRequest rendered = RenderChat(request_, template_).value();
  EXPECT_EQ(rendered.text(), "<|begin_of_text|><|user|>An \"owl\"<|end_of_turn|><|assistant|>");
  EXPECT_EQ(rendered.max_tokens(), 5);
  EXPECT_TRUE(rendered.has_add_special_tokens());
  EXPECT_FALSE(rendered.add_special_tokens());
}

TEST_F(ChatPromptTest, TheAssistantsTurnIsLeftClosedOnRequest) {
  Say("user", "An owl");
  request_.set_add_generation_prompt(false);
  EXPECT_EQ(RenderChat(request_, template_)->text(),
            "<|begin_of_text|><|user|>An owl<|end_of_turn|>");
}

TEST_F(ChatPromptTest, TemplateVariablesReachTheTemplate) {
  Say("user", "An owl");
  request_.set_template_variables_json(R"({"bos_token": "[B]"})");
  EXPECT_THAT(RenderChat(request_, template_)->text(), ::testing::StartsWith("[B]"));
}

TEST_F(ChatPromptTest, ARefusalOfTheTemplateKeepsItsWords) {
  Say("wizard", "An owl");
  EXPECT_EQ(Refusal().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(Refusal().message()), HasSubstr("not wizard"));
  EXPECT_EQ(FieldOf(Refusal()), "messages");
}

TEST_F(ChatPromptTest, WhatIsNoChatIsRefused) {
  EXPECT_EQ(FieldOf(Refusal()), "messages");
  Say("user", "x");
  request_.mutable_generation()->set_text("y");
  EXPECT_EQ(FieldOf(Refusal()), "generation.prompt");
  EXPECT_EQ(RenderChat(request_, nullptr).status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace lockstep::coordinator
