// RequestOutput: choices that take turns, ends of every kind, and what gathers between two
// messages.
#include "coordinator/serve/request_output.h"

#include <memory>

#include "coordinator/serve/testing/byte_tokenizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lockstep::coordinator {
namespace {

using ::testing::ElementsAre;

class RequestOutputTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { tokenizer_ = MakeByteTokenizer().release(); }
  static void TearDownTestSuite() { delete tokenizer_; }

  void Start(int choices, TextOptions options = {}) {
    options_ = std::move(options);
    output_ = std::make_unique<RequestOutput>(choices, *tokenizer_, options_);
    text_ = std::make_unique<MessageText>(choices, *tokenizer_, options_);
  }
  bool Next() {
    if (!output_->Next(message_)) return false;
    text_->Fill(message_);
    return true;
  }
  static RequestUpdate Token(int32_t id, int choice = 0) {
    return {.choice = choice, .token_id = id};
  }
  static RequestUpdate Ended(v1::FinishReason reason, int choice = 0) {
    RequestOutcome outcome{.reason = reason, .completion_tokens = 3};
    return {.choice = choice, .outcome = outcome};
  }

  static const text::Tokenizer* tokenizer_;
  TextOptions options_;
  std::unique_ptr<RequestOutput> output_;
  std::unique_ptr<MessageText> text_;
  v1::GenerateResponse message_;
};
const text::Tokenizer* RequestOutputTest::tokenizer_ = nullptr;

TEST_F(RequestOutputTest, WhatCameSinceTheLastMessageGoesOutTogether) {
  Start(1);
  EXPECT_FALSE(Next());
  output_->Add(Token('a'));
  output_->Add(Token('b'));
  ASSERT_TRUE(Next());
  EXPECT_THAT(message_.token_ids(), ElementsAre('a', 'b'));
  EXPECT_EQ(message_.text(), "ab");
  EXPECT_FALSE(message_.has_finish());
  EXPECT_FALSE(Next());
  output_->Add(Token('c'));
  output_->Add(Ended(v1::FINISH_REASON_LENGTH));
  EXPECT_TRUE(output_->complete());
  EXPECT_FALSE(output_->finished());
  ASSERT_TRUE(Next());
  EXPECT_EQ(message_.text(), "c");
  EXPECT_EQ(message_.finish().reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(message_.finish().completion_tokens(), 3);
  EXPECT_TRUE(output_->finished());
}

TEST_F(RequestOutputTest, ChoicesTakeTurnsAndEndApart) {
  Start(2);
  output_->Add(Token('a', 0));
  output_->Add(Token('x', 1));
  output_->Add(Ended(v1::FINISH_REASON_LENGTH, 0));
  ASSERT_TRUE(Next());
  EXPECT_EQ(message_.choice(), 0u);
  EXPECT_TRUE(message_.has_finish());
  EXPECT_FALSE(output_->finished());
  ASSERT_TRUE(Next());
  EXPECT_EQ(message_.choice(), 1u);
  EXPECT_EQ(message_.text(), "x");
  output_->Add(Ended(v1::FINISH_REASON_LENGTH, 1));
  ASSERT_TRUE(Next());
  EXPECT_EQ(message_.choice(), 1u);
  EXPECT_TRUE(message_.token_ids().empty());
  EXPECT_TRUE(output_->finished());
}

TEST_F(RequestOutputTest, TheEndTokenIsAnIdAndNoText) {
  Start(1, {.skip_special_tokens = false});
  output_->Add(Token('a'));
  RequestUpdate last = Ended(v1::FINISH_REASON_STOP);
  last.token_id = kByteEnd;
  output_->Add(std::move(last));
  ASSERT_TRUE(Next());
  EXPECT_THAT(message_.token_ids(), ElementsAre('a', kByteEnd));
  EXPECT_EQ(message_.text(), "a");
  EXPECT_EQ(message_.finish().stop_token_id(), kByteEnd);
}

TEST_F(RequestOutputTest, AStopStringStopsTheChoiceThatHasItAndIsNamed) {
  Start(2, {.stop = {"bc"}});
  EXPECT_EQ(output_->Add(Token('b', 0)), SinkVerdict::kGoOn);
  EXPECT_EQ(output_->Add(Token('b', 1)), SinkVerdict::kGoOn);
  EXPECT_EQ(output_->Add(Token('c', 1)), SinkVerdict::kStop);
  EXPECT_EQ(output_->Add(Token('d', 0)), SinkVerdict::kGoOn);
  output_->Add(Ended(v1::FINISH_REASON_STOP, 1));
  ASSERT_TRUE(Next());
  EXPECT_EQ(message_.text(), "bd");
  ASSERT_TRUE(Next());
  EXPECT_EQ(message_.text(), "");
  EXPECT_EQ(message_.finish().stop(), "bc");
  EXPECT_EQ(message_.finish().reason(), v1::FINISH_REASON_STOP);
}

TEST_F(RequestOutputTest, AStopStringCompletedByTheLastTokenIsTheReason) {
  Start(1, {.stop = {"b"}});
  RequestUpdate last = Ended(v1::FINISH_REASON_LENGTH);
  last.token_id = 'b';
  output_->Add(std::move(last));
  ASSERT_TRUE(Next());
  EXPECT_EQ(message_.text(), "");
  EXPECT_EQ(message_.finish().reason(), v1::FINISH_REASON_STOP);
}

TEST_F(RequestOutputTest, AFailureOfOneChoiceEndsAll) {
  Start(2);
  output_->Add(Token('a', 0));
  RequestUpdate failed{.choice = 1, .outcome = RequestOutcome{.status = absl::CancelledError("x")}};
  output_->Add(std::move(failed));
  EXPECT_TRUE(absl::IsCancelled(output_->status()));
  EXPECT_TRUE(output_->complete());
  EXPECT_FALSE(output_->has_message());
  EXPECT_FALSE(Next());
}

TEST_F(RequestOutputTest, UpdatesAfterTheOutcomeAreIgnored) {
  Start(1);
  output_->Add(Ended(v1::FINISH_REASON_LENGTH));
  output_->Add(Token('z'));
  ASSERT_TRUE(Next());
  EXPECT_TRUE(message_.token_ids().empty());
  EXPECT_FALSE(output_->has_message());
}

TEST_F(RequestOutputTest, LogprobsAndAlternativesStayBesideTheirTokens) {
  Start(1);
  v1::TokenAlternatives alternatives;
  alternatives.add_token_ids(7);
  alternatives.add_logprobs(-0.5F);
  RequestUpdate update{.prompt_logprobs = {-1.0F, -2.0F},
                       .prompt_alternatives = {alternatives, alternatives},
                       .token_id = 'a',
                       .logprob = -3.0F,
                       .alternatives = alternatives};
  output_->Add(std::move(update));
  ASSERT_TRUE(Next());
  EXPECT_THAT(message_.prompt_logprobs(), ElementsAre(-1.0F, -2.0F));
  EXPECT_EQ(message_.prompt_top_logprobs_size(), 2);
  EXPECT_THAT(message_.logprobs(), ElementsAre(-3.0F));
  EXPECT_THAT(message_.top_logprobs(0).token_ids(), ElementsAre(7));
}

}  // namespace
}  // namespace lockstep::coordinator
