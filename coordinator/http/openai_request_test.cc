// OpenAI's bodies become canonical requests; what is not supported is refused by its name.
#include "coordinator/http/openai_request.h"

#include "coordinator/serve/field_error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lockstep::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;

CompletionCall Completion(const Json& body) { return ParseCompletionCall(body).value(); }

void ExpectRefused(const absl::Status& status, const std::string& field, const std::string& words) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << field;
  EXPECT_EQ(FieldOf(status), field);
  EXPECT_THAT(std::string(status.message()), HasSubstr(words));
}

TEST(CompletionCallTest, DefaultsAreOpenAis) {
  const CompletionCall call = Completion({{"prompt", "x"}});
  ASSERT_EQ(call.generations.size(), 1u);
  EXPECT_EQ(call.generations[0].text(), "x");
  EXPECT_EQ(call.generations[0].max_tokens(), 16);
  EXPECT_FALSE(call.generations[0].sampling().has_temperature());
  EXPECT_FALSE(call.generations[0].logprobs());
  EXPECT_FALSE(call.response.stream);
  EXPECT_EQ(call.model, "");
}

TEST(CompletionCallTest, EveryFieldReachesItsPlace) {
  const v1::GenerateRequest request = Completion({{"model", "m"},
                                                  {"prompt", "x"},
                                                  {"max_tokens", 7},
                                                  {"temperature", 0.5},
                                                  {"top_p", 0.9},
                                                  {"top_k", 40},
                                                  {"min_p", 0.1},
                                                  {"seed", 3},
                                                  {"n", 2},
                                                  {"best_of", 2},
                                                  {"stop", "end"},
                                                  {"stop_token_ids", {4, 5}},
                                                  {"min_tokens", 1},
                                                  {"ignore_eos", true},
                                                  {"priority", -1},
                                                  {"presence_penalty", 1},
                                                  {"logprobs", 2},
                                                  {"frequency_penalty", -1},
                                                  {"user", "somebody"},
                                                  {"repetition_penalty", 1.1},
                                                  {"logit_bias", {{"17", -5}}},
                                                  {"skip_special_tokens", false},
                                                  {"add_special_tokens", false},
                                                  {"include_stop_str_in_output", true}})
                                          .generations[0];
  EXPECT_EQ(request.max_tokens(), 7);
  EXPECT_EQ(request.sampling().temperature(), 0.5);
  EXPECT_EQ(request.sampling().top_p(), 0.9);
  EXPECT_EQ(request.sampling().top_k(), 40);
  EXPECT_EQ(request.sampling().min_p(), 0.1);
  EXPECT_EQ(request.sampling().seed(), 3u);
  EXPECT_EQ(request.sampling().presence_penalty(), 1);
  EXPECT_EQ(request.sampling().frequency_penalty(), -1);
  EXPECT_EQ(request.sampling().repetition_penalty(), 1.1);
  EXPECT_EQ(request.sampling().logit_bias().at(17), -5);
  EXPECT_EQ(request.sampling().min_tokens(), 1);
  EXPECT_EQ(request.n(), 2);
  EXPECT_THAT(request.stop(), ElementsAre("end"));
  EXPECT_THAT(request.stop_token_ids(), ElementsAre(4, 5));
  EXPECT_TRUE(request.ignore_eos());
  EXPECT_EQ(request.priority(), -1);
  EXPECT_TRUE(request.logprobs());
  EXPECT_EQ(request.top_logprobs(), 2);
  EXPECT_FALSE(request.prompt_logprobs());
  EXPECT_TRUE(request.has_skip_special_tokens());
  EXPECT_FALSE(request.skip_special_tokens());
  EXPECT_FALSE(request.add_special_tokens());
  EXPECT_TRUE(request.include_stop_in_output());
}

TEST(CompletionCallTest, PromptsComeInFourShapes) {
  EXPECT_EQ(Completion({{"prompt", ""}}).generations[0].text(), "");
  const auto texts = Completion({{"prompt", {"a", "b"}}}).generations;
  ASSERT_EQ(texts.size(), 2u);
  EXPECT_EQ(texts[1].text(), "b");
  const auto ids = Completion({{"prompt", {1, 2}}}).generations;
  ASSERT_EQ(ids.size(), 1u);
  EXPECT_THAT(ids[0].tokens().ids(), ElementsAre(1, 2));
  const auto lists = Completion({{"prompt", Json::parse("[[1, 2], [3]]")}, {"n", 3}}).generations;
  ASSERT_EQ(lists.size(), 2u);
  EXPECT_THAT(lists[1].tokens().ids(), ElementsAre(3));
  EXPECT_EQ(lists[1].n(), 3);
}

TEST(CompletionCallTest, OtherPromptsAreRefused) {
  for (const char* prompt : {"null", "3", "{}", "[]", "[[]]", "[null]", "[1, \"a\"]", "[[1], 2]",
                             "[1.5]", "[4294967296]"}) {
    ExpectRefused(ParseCompletionCall({{"prompt", Json::parse(prompt)}}).status(), "prompt", "");
  }
  ExpectRefused(ParseCompletionCall(Json::object()).status(), "prompt", "is missing");
}

TEST(CompletionCallTest, EchoWithLogprobsWantsThoseOfThePrompt) {
  const CompletionCall call = Completion({{"prompt", "x"}, {"echo", true}, {"logprobs", 0}});
  EXPECT_TRUE(call.generations[0].prompt_logprobs());
  EXPECT_TRUE(call.response.echo);
  EXPECT_TRUE(call.response.logprobs);
}

TEST(CompletionCallTest, EchoOfNoTokensGeneratesOneThatIsNotTold) {
  const CompletionCall call = Completion({{"prompt", "x"}, {"echo", true}, {"max_tokens", 0}});
  EXPECT_TRUE(call.response.only_echo);
  EXPECT_EQ(call.generations[0].max_tokens(), 1);
  EXPECT_EQ(Completion({{"prompt", "x"}, {"max_tokens", 0}}).generations[0].max_tokens(), 0);
}

TEST(CompletionCallTest, MinusOneIsAllTokens) {
  EXPECT_EQ(Completion({{"prompt", "x"}, {"top_k", -1}}).generations[0].sampling().top_k(), 0);
}

TEST(CompletionCallTest, WhatIsNotSupportedIsRefusedByName) {
  for (const std::string field : {"suffix", "response_format", "guided_json", "use_beam_search"}) {
    ExpectRefused(ParseCompletionCall({{"prompt", "x"}, {field, "y"}}).status(), field,
                  "not supported");
  }
  EXPECT_TRUE(ParseCompletionCall({{"prompt", "x"}, {"suffix", nullptr}}).ok());
  ExpectRefused(ParseCompletionCall({{"prompt", "x"}, {"best_of", 2}}).status(), "best_of", "");
}

TEST(CompletionCallTest, StreamOptionsAreForStreams) {
  const Json options = {{"include_usage", true}};
  EXPECT_TRUE(Completion({{"prompt", "x"}, {"stream", true}, {"stream_options", options}})
                  .response.include_usage);
  ExpectRefused(ParseCompletionCall({{"prompt", "x"}, {"stream_options", options}}).status(),
                "stream_options", "\"stream\": true");
  const Json unknown = {{"colour", true}};
  ExpectRefused(
      ParseCompletionCall({{"prompt", "x"}, {"stream", true}, {"stream_options", unknown}})
          .status(),
      "stream_options", "stream_options.colour is not supported");
}

TEST(ChatCallTest, MessagesAndVariablesReachTheTemplate) {
  const ChatCall call = ParseChatCall(Json::parse(R"({"messages": [
          {"role": "system", "content": "Be brief."},
          {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
          "add_generation_prompt": false, "chat_template_kwargs": {"deep": true},
          "max_tokens": 5, "max_completion_tokens": 9, "logprobs": true, "top_logprobs": 4})"))
                            .value();
  ASSERT_EQ(call.chat.messages_size(), 2);
  EXPECT_EQ(call.chat.messages(0).role(), "system");
  EXPECT_EQ(call.chat.messages(1).content(), "a\nb");
  EXPECT_FALSE(call.chat.add_generation_prompt());
  EXPECT_EQ(call.chat.template_variables_json(), R"({"deep":true})");
  EXPECT_EQ(call.chat.generation().max_tokens(), 9);
  EXPECT_EQ(call.chat.generation().top_logprobs(), 4);
  EXPECT_EQ(call.chat.generation().prompt_case(), v1::GenerateRequest::PROMPT_NOT_SET);
}

TEST(ChatCallTest, AnAnswerMayFillTheContext) {
  const Json body = {{"messages", {{{"role", "user"}, {"content", "x"}}}}};
  EXPECT_FALSE(ParseChatCall(body)->chat.generation().has_max_tokens());
}

TEST(ChatCallTest, MessagesThatAreNoneAreRefusedByTheirPlace) {
  auto refused = [](const char* messages, const std::string& field) {
    ExpectRefused(ParseChatCall({{"messages", Json::parse(messages)}}).status(), field, "");
  };
  refused("[]", "messages");
  refused("[3]", "messages");
  refused(R"([{"role": "user"}])", "messages[0].content");
  refused(R"([{"role": "user", "content": "x"}, {"content": "x"}])", "messages[1].role");
  refused(R"([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}])",
          "messages[0].content");
  refused(R"([{"role": "user", "content": "x", "tool_calls": [1]}])", "messages[0].tool_calls");
}

TEST(ChatCallTest, ToolsAndAlternativesWithoutLogprobsAreRefused) {
  const Json messages = {{{"role", "user"}, {"content", "x"}}};
  ExpectRefused(ParseChatCall({{"messages", messages}, {"tools", {1}}}).status(), "tools",
                "not supported");
  ExpectRefused(ParseChatCall({{"messages", messages}, {"top_logprobs", 1}}).status(),
                "top_logprobs", "\"logprobs\": true");
}

TEST(TokenizeCallTest, TakesATextOrAConversationButNotBoth) {
  EXPECT_EQ(ParseTokenizeCall({{"prompt", "x"}})->prompt, "x");
  const Json messages = {{{"role", "user"}, {"content", "x"}}};
  EXPECT_EQ(ParseTokenizeCall({{"messages", messages}})->chat.messages_size(), 1);
  ExpectRefused(ParseTokenizeCall({{"messages", messages}, {"prompt", "x"}}).status(), "prompt",
                "");
  ExpectRefused(ParseTokenizeCall(Json::object()).status(), "prompt", "is missing");
}

TEST(DetokenizeCallTest, TakesTokens) {
  EXPECT_THAT(ParseDetokenizeCall({{"tokens", {1, 2}}})->tokens, ElementsAre(1, 2));
  ExpectRefused(ParseDetokenizeCall(Json::object()).status(), "tokens", "is missing");
}

}  // namespace
}  // namespace lockstep::coordinator
