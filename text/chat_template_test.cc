// Chat templates render as in Transformers, and each way to fail gives one clear error.
#include "text/chat_template.h"

#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "text/testing.h"

namespace lockstep::text {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

constexpr char kHello[] = R"([{"role": "user", "content": "Hello"}])";

absl::StatusOr<std::unique_ptr<ChatTemplate>> LoadFrom(const Json& config,
                                                       const std::string& file = "") {
  const TempDir dir;
  std::ofstream(dir.path() / "tokenizer_config.json") << config.dump();
  if (!file.empty()) std::ofstream(dir.path() / "chat_template.jinja") << file;
  return ChatTemplate::Load(dir.path());
}

std::unique_ptr<ChatTemplate> Compile(const std::string& source) {
  return LoadFrom({{"chat_template", source}, {"bos_token", "<s>"}}).value();
}

absl::Status RenderError(const std::string& source, const std::string& messages = kHello) {
  return Compile(source)->Render(messages, false).status();
}

TEST(ChatTemplateTest, RendersWhatTransformersRenders) {
  const Json expected = Json::parse(ReadTestFile("expected_chats.json"));
  ASSERT_GE(expected["cases"].size(), 10u);
  for (const Json& chat : expected["cases"]) {
    Json config = expected["special_tokens"];
    config["chat_template"] =
        ReadTestFile("templates/" + chat["template"].get<std::string>() + ".jinja");
    const auto chat_template = LoadFrom(config);
    ASSERT_TRUE(chat_template.ok()) << chat_template.status();
    const auto rendered =
        (*chat_template)
            ->Render(chat["messages"].dump(), chat["add_generation_prompt"].get<bool>(),
                     chat["kwargs"].dump());
    SCOPED_TRACE(chat["template"]);
    if (chat.contains("raises")) {
      EXPECT_EQ(rendered.status().code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(std::string(rendered.status().message()),
                  HasSubstr("refuses the conversation: " + chat["raises"].get<std::string>()));
    } else {
      ASSERT_TRUE(rendered.ok()) << rendered.status();
      EXPECT_EQ(*rendered, chat["rendered"].get<std::string>());
    }
  }
}

TEST(ChatTemplateTest, TheClockIsTheMachinesOwn) {
  const auto rendered = Compile("{{ strftime_now('%Y-%m-%d %B') }}")->Render(kHello, false);
  ASSERT_TRUE(rendered.ok()) << rendered.status();
  EXPECT_THAT(*rendered, ::testing::MatchesRegex("2[0-9][0-9][0-9]-[01][0-9]-[0-3][0-9] [A-Z].*"));
}

TEST(ChatTemplateTest, TheFileReplacesTheConfiguration) {
  const auto chat_template = LoadFrom({{"chat_template", "old"}}, "new {{ eos_token is defined }}");
  EXPECT_EQ(*(*chat_template)->Render(kHello, false), "new False");
}

TEST(ChatTemplateTest, ToolsPickTheTemplateForTools) {
  const auto chat_template =
      LoadFrom({{"chat_template",
                 {{{"name", "default"}, {"template", "plain"}},
                  {{"name", "tool_use"}, {"template", "tools {{ tools[0].name if tools }}"}}}}});
  ASSERT_TRUE(chat_template.ok()) << chat_template.status();
  EXPECT_EQ(*(*chat_template)->Render(kHello, false), "plain");
  EXPECT_EQ(*(*chat_template)->Render(kHello, false, R"({"tools": null})"), "plain");
  EXPECT_EQ(*(*chat_template)->Render(kHello, false, R"({"tools": [{"name": "f"}]})"), "tools f");
  EXPECT_EQ(*(*chat_template)->Render(kHello, false, "", "tool_use"), "tools ");
  const absl::Status unknown = (*chat_template)->Render(kHello, false, "", "rag").status();
  EXPECT_EQ(unknown.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(unknown.message()), HasSubstr(R"(it has "default", "tool_use")"));
}

TEST(ChatTemplateTest, AModelWithoutATemplateSaysSo) {
  const absl::Status status = LoadFrom({{"bos_token", "<s>"}}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("has no chat template"));
}

TEST(ChatTemplateTest, MalformedTemplatesAreRefusedAtLoad) {
  const absl::Status syntax = LoadFrom({{"chat_template", "a\n{% if x %}"}}).status();
  EXPECT_EQ(syntax.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(syntax.message()),
              AllOf(HasSubstr("\"default\""), HasSubstr("does not compile")));
  for (const Json& entry : {Json(3), Json({1}), Json({{{"name", "x"}}})}) {
    const absl::Status status = LoadFrom({{"chat_template", entry}}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("chat_template is neither a string"));
  }
  EXPECT_EQ(LoadFrom({}, "\xff").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ChatTemplateTest, ATemplateThatFailsSaysWhere) {
  const absl::Status status = RenderError("\n{{ messages[0].missing.field }}");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("fails on this conversation"), HasSubstr("chat_template:2")));
}

TEST(ChatTemplateTest, ATemplateThatDoesNotEndIsStopped) {
  const std::string loops =
      "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
  EXPECT_EQ(RenderError(loops).code(), absl::StatusCode::kResourceExhausted);
  const std::string grows =
      "{% set n = namespace(s='ab') %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor "
      "%}";
  EXPECT_EQ(RenderError(grows).code(), absl::StatusCode::kResourceExhausted);
  const std::string recurses = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}";
  EXPECT_EQ(RenderError(recurses).code(), absl::StatusCode::kInvalidArgument);
}

TEST(ChatTemplateTest, MalformedRequestsAreRefused) {
  const auto chat_template = Compile("{{ messages | length }}");
  for (const std::string messages : {"", "{", "3", R"({"role": "user"})", "[\"\xff\"]"}) {
    EXPECT_EQ(chat_template->Render(messages, false).status().code(),
              absl::StatusCode::kInvalidArgument)
        << messages;
  }
  EXPECT_EQ(chat_template->Render(std::string(100000, '['), false).status().code(),
            absl::StatusCode::kInvalidArgument);
  for (const std::string kwargs : {"[]", "{", "null"}) {
    EXPECT_EQ(chat_template->Render(kHello, false, kwargs).status().code(),
              absl::StatusCode::kInvalidArgument)
        << kwargs;
  }
}

}  // namespace
}  // namespace lockstep::text
