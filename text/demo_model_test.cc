// The tokenizer and the chat template of the demo model, as they are committed.
#include <filesystem>

#include "gtest/gtest.h"
#include "text/chat_template.h"
#include "text/stream_decoder.h"
#include "text/tokenizer.h"

namespace lockstep::text {
namespace {

constexpr char kModel[] = "models/demo";
constexpr char kStory[] =
    "Once upon a time, there was a gentle owl named Ruby. \"I can not move,\" said Finn.";

TEST(DemoModelTest, AStorySurvivesTokenizingAndStreaming) {
  const auto tokenizer = Tokenizer::Load(kModel);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const std::vector<int32_t> ids = *(*tokenizer)->Encode(kStory, true);
  EXPECT_EQ(ids.front(), (*tokenizer)->bos_id());
  EXPECT_LT(ids.size(), sizeof(kStory) / 3);
  EXPECT_EQ(*(*tokenizer)->Decode(ids, true), kStory);
  StreamDecoder stream(**tokenizer, true);
  std::string streamed;
  for (const int32_t id : ids) streamed += *stream.Push(id);
  EXPECT_EQ(streamed + stream.Flush(), kStory);
}

TEST(DemoModelTest, TheChatTemplateWritesTokensOfTheVocabulary) {
  const auto tokenizer = Tokenizer::Load(kModel);
  const auto chat_template = ChatTemplate::Load(kModel);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ASSERT_TRUE(chat_template.ok()) << chat_template.status();
  const std::string prompt =
      *(*chat_template)->Render(R"([{"role": "user", "content": " An owl. "}])", true);
  EXPECT_EQ(prompt, "<|begin_of_text|><|user|>An owl.<|end_of_turn|><|assistant|>");
  const std::vector<int32_t> ids = *(*tokenizer)->Encode(prompt, false);
  EXPECT_EQ(ids.front(), (*tokenizer)->bos_id());
  EXPECT_EQ(ids.back(), (*tokenizer)->TokenId("<|assistant|>"));
  EXPECT_EQ(*(*tokenizer)->Decode(ids, true), "An owl.");
}

TEST(DemoModelTest, TheChatTemplateRefusesAnUnknownRole) {
  const auto chat_template = ChatTemplate::Load(kModel);
  ASSERT_TRUE(chat_template.ok()) << chat_template.status();
  const auto prompt = (*chat_template)->Render(R"([{"role": "tool", "content": ""}])", true);
  EXPECT_EQ(prompt.status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace lockstep::text
