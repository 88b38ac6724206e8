// The objects of a response, field by field, and the errors.
#include "coordinator/http/openai_response.h"

#include <limits>
#include <memory>

#include "coordinator/http/api_error.h"
#include "coordinator/http/token_logprobs.h"
#include "coordinator/serve/field_error.h"
#include "coordinator/serve/testing/byte_tokenizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lockstep::coordinator {
namespace {

using ::testing::ElementsAre;
using Json = OrderedJson;

class OpenAiResponseTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { tokenizer_ = MakeByteTokenizer().release(); }
  static void TearDownTestSuite() { delete tokenizer_; }

  static v1::GenerateResponse Message(const std::string& text, bool last = false) {
    v1::GenerateResponse message;
    message.set_text(text);
    for (const char c : text) {
      message.add_token_ids(static_cast<uint8_t>(c));
      message.add_logprobs(-0.5F);
      v1::TokenAlternatives* top = message.add_top_logprobs();
      top->add_token_ids('z');
      top->add_logprobs(-0.25F);
    }
    if (last) {
      message.mutable_finish()->set_reason(v1::FINISH_REASON_LENGTH);
      message.mutable_finish()->set_prompt_tokens(3);
      message.mutable_finish()->set_cached_tokens(2);
      message.mutable_finish()->set_completion_tokens(static_cast<int>(text.size()));
    }
    return message;
  }

  std::unique_ptr<ChoiceFormat> Completion() {
    return MakeCompletionFormat(4, options_, *tokenizer_, prompt_);
  }

  static const text::Tokenizer* tokenizer_;
  ResponseOptions options_;
  PromptPart prompt_{.text = "pö", .token_ids = {'p', 0xc3, 0xb6}, .logprobs = {-1, -2}};
};
const text::Tokenizer* OpenAiResponseTest::tokenizer_ = nullptr;

TEST_F(OpenAiResponseTest, ACompletionChoiceHasTextAndReason) {
  EXPECT_EQ(Completion()->Whole(Message("ab", true)),
            Json::parse(R"({"index": 4, "text": "ab", "logprobs": null, "finish_reason": "length",
                            "stop_reason": null})"));
}

TEST_F(OpenAiResponseTest, WhatEndedTheOutputIsNamed) {
  v1::GenerateResponse message = Message("ab", true);
  message.mutable_finish()->set_reason(v1::FINISH_REASON_STOP);
  message.mutable_finish()->set_stop("end");
  EXPECT_EQ(Completion()->Whole(message)["stop_reason"], "end");
  message.mutable_finish()->set_stop_token_id(7);
  EXPECT_EQ(Completion()->Whole(message)["stop_reason"], 7);
  EXPECT_EQ(Completion()->Whole(message)["finish_reason"], "stop");
}

TEST_F(OpenAiResponseTest, EchoPutsThePromptAndItsLogprobsFirst) {
  options_ = {.echo = true, .logprobs = true};
  const Json choice = Completion()->Whole(Message("a", true));
  EXPECT_EQ(choice["text"], "pöa");
  const Json& logprobs = choice["logprobs"];
  EXPECT_EQ(logprobs["tokens"], Json::parse(R"(["p", "\ufffd", "\ufffd", "a"])"));
  EXPECT_EQ(logprobs["token_logprobs"], Json::parse("[null, -1.0, -2.0, -0.5]"));
  EXPECT_EQ(logprobs["top_logprobs"][0], nullptr);
  EXPECT_EQ(logprobs["top_logprobs"][3], Json::parse(R"({"z": -0.25, "a": -0.5})"));
  EXPECT_EQ(logprobs["text_offset"], Json::parse("[0, 1, 2, 3]"));
}

TEST_F(OpenAiResponseTest, EchoAloneHidesWhatWasGenerated) {
  options_ = {.echo = true, .only_echo = true, .logprobs = true, .return_token_ids = true};
  const Json choice = Completion()->Whole(Message("a", true));
  EXPECT_EQ(choice["text"], "pö");
  EXPECT_EQ(choice["logprobs"]["tokens"].size(), 3u);
  EXPECT_EQ(choice["token_ids"], Json::array());
  EXPECT_EQ(choice["prompt_token_ids"].size(), 3u);
}

TEST_F(OpenAiResponseTest, ChunksEchoOnceAndOffsetsGoOn) {
  options_ = {.stream = true, .echo = true, .logprobs = true};
  const auto format = Completion();
  EXPECT_EQ(format->Chunks(Message("a"))[0]["text"], "pöa");
  const Json second = format->Chunks(Message("b"))[0];
  EXPECT_EQ(second["text"], "b");
  EXPECT_EQ(second["logprobs"]["text_offset"], Json::parse("[4]"));
}

TEST_F(OpenAiResponseTest, AMessageWithNothingToShowIsNoChunk) {
  options_ = {.stream = true};
  const auto format = Completion();
  EXPECT_EQ(format->Chunks(Message("a")).size(), 1u);
  v1::GenerateResponse held = Message("b");
  held.clear_text();
  EXPECT_TRUE(format->Chunks(held).empty());
  options_.return_token_ids = true;
  EXPECT_EQ(format->Chunks(held).size(), 1u);
}

TEST_F(OpenAiResponseTest, AChatBeginsWithTheRoleAndEndsWithTheReason) {
  options_ = {.stream = true};
  const auto format = MakeChatFormat(0, options_, *tokenizer_);
  const std::vector<Json> first = format->Chunks(Message("a"));
  ASSERT_EQ(first.size(), 2u);
  EXPECT_EQ(first[0]["delta"], Json::parse(R"({"role": "assistant", "content": ""})"));
  EXPECT_EQ(first[1]["delta"], Json::parse(R"({"content": "a"})"));
  EXPECT_EQ(first[1]["finish_reason"], nullptr);
  const std::vector<Json> last = format->Chunks(Message("", true));
  ASSERT_EQ(last.size(), 1u);
  EXPECT_EQ(last[0]["delta"], Json::object());
  EXPECT_EQ(last[0]["finish_reason"], "length");
}

TEST_F(OpenAiResponseTest, AChatsLogprobsTellBytesAndAlternatives) {
  options_ = {.logprobs = true};
  const Json choice = MakeChatFormat(0, options_, *tokenizer_)->Whole(Message("a", true));
  EXPECT_EQ(choice["message"], Json::parse(R"({"role": "assistant", "content": "a"})"));
  EXPECT_EQ(choice["logprobs"], Json::parse(R"({"content": [{"token": "a", "logprob": -0.5,
      "bytes": [97], "top_logprobs": [{"token": "z", "logprob": -0.25, "bytes": [122]}]}]})"));
}

TEST_F(OpenAiResponseTest, ImpossibleTokensHaveANumberThatJsonCanWrite) {
  const Json entry = LogprobEntry(
      *tokenizer_, {.token_id = 'a', .logprob = -std::numeric_limits<float>::infinity()});
  EXPECT_EQ(entry["logprob"], -9999.0);
}

TEST_F(OpenAiResponseTest, UsageCountsAPromptOnceAndEveryChoice) {
  Usage usage;
  v1::GenerateResponse message = Message("abcd", true);
  usage.Add(Message("ab"));
  usage.Add(message);
  message.set_choice(1);
  usage.Add(message);
  EXPECT_EQ(usage.ToJson(), Json::parse(R"({"prompt_tokens": 3, "total_tokens": 11,
      "completion_tokens": 8, "prompt_tokens_details": {"cached_tokens": 2}})"));
}

TEST_F(OpenAiResponseTest, AnEventIsOneLineAndAnEmptyOne) {
  EXPECT_EQ(ServerSentEvent(Dump({{"a", "x\ny"}})), "data: {\"a\":\"x\\ny\"}\n\n");
}

TEST(ApiErrorTest, ErrorsKeepTheirFieldInTheWordsOfHttp) {
  const absl::Status status = FieldError(absl::StatusCode::kInvalidArgument, "sampling.top_p",
                                         "sampling.top_p = 0 is out of range");
  const HttpResponse response = ErrorResponse(status);
  EXPECT_EQ(response.head.status, 400);
  EXPECT_EQ(Json::parse(response.body),
            Json::parse(R"({"error": {"message": "top_p = 0 is out of range",
                            "type": "invalid_request_error", "param": "top_p", "code": null}})"));
}

TEST(ApiErrorTest, WhatMayPassLaterSaysWhenToTryAgain) {
  for (const auto& [status, code] : {std::pair(absl::ResourceExhaustedError("full"), 429),
                                     {absl::UnavailableError("no"), 503}}) {
    const HttpResponse response = ErrorResponse(status);
    EXPECT_EQ(response.head.status, code);
    EXPECT_THAT(response.head.headers, ElementsAre(std::pair("Retry-After", "1")));
  }
  EXPECT_TRUE(ErrorResponse(absl::OutOfRangeError("long")).head.headers.empty());
}

TEST(ApiErrorTest, DefectsAreOurs) {
  EXPECT_EQ(HttpStatusOf(absl::InternalError("x")), 500);
  EXPECT_EQ(HttpStatusOf(absl::CancelledError("x")), 500);
  EXPECT_EQ(HttpStatusOf(absl::DeadlineExceededError("x")), 504);
}

}  // namespace
}  // namespace lockstep::coordinator
