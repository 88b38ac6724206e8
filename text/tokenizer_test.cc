// The tokenizer gives the ids and texts of Transformers for each family of tokenizers, and each
// kind of malformed input gives one clear error.
#include "text/tokenizer.h"

#include <atomic>
#include <fstream>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "text/testing.h"

namespace lockstep::text {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::vector<int32_t> Ids(const nlohmann::json& json) { return json.get<std::vector<int32_t>>(); }

TEST(TokenizerTest, IdsAndTextsAreThoseOfTransformers) {
  const nlohmann::json cases = ReadTestJson("expected_tokens.json");
  ASSERT_GE(cases.size(), 100u);
  for (const std::string& family : kFamilies) {
    const auto tokenizer = LoadTestTokenizer(family);
    for (const nlohmann::json& expected : cases) {
      if (expected["tokenizer"] != family) continue;
      SCOPED_TRACE(expected.dump());
      const auto ids = tokenizer->Encode(expected["text"].get<std::string>(),
                                         expected["add_special_tokens"].get<bool>());
      ASSERT_TRUE(ids.ok()) << ids.status();
      EXPECT_EQ(*ids, Ids(expected["ids"]));
      EXPECT_EQ(*tokenizer->Decode(*ids, false), expected["kept"].get<std::string>());
      EXPECT_EQ(*tokenizer->Decode(*ids, true), expected["skipped"].get<std::string>());
    }
  }
}

TEST(TokenizerTest, ByteLevelTextSurvivesARoundTrip) {
  const auto tokenizer = LoadTestTokenizer("byte_level");
  for (const std::string text : {"a\tb\n", "🦊🏮 日本", "  x  ", "\xEF\xBF\xBD"}) {
    EXPECT_EQ(*tokenizer->Decode(*tokenizer->Encode(text, false), false), text);
  }
}

TEST(TokenizerTest, SpecialTokensAreNamedByTheConfiguration) {
  const auto tokenizer = LoadTestTokenizer("byte_level");
  EXPECT_EQ(tokenizer->bos_id(), tokenizer->TokenId("<|begin|>"));
  EXPECT_EQ(tokenizer->eos_id(), tokenizer->TokenId("<|end|>"));
  EXPECT_TRUE(tokenizer->eos_id().has_value());
  EXPECT_EQ(tokenizer->pad_id(), std::nullopt);
  EXPECT_EQ(tokenizer->TokenId("<|late|>"), tokenizer->vocab_size() - 1);
  EXPECT_EQ(tokenizer->TokenId("no such token"), std::nullopt);
  EXPECT_EQ(tokenizer->TokenId("\xff"), std::nullopt);
}

TEST(TokenizerTest, KindsTellBytesAndSpecialTokensApart) {
  const auto tokenizer = LoadTestTokenizer("llama2_style");
  EXPECT_EQ(tokenizer->Kind(*tokenizer->TokenId("<0x41>")), TokenKind::kByte);
  EXPECT_EQ(tokenizer->Kind(*tokenizer->TokenId("</s>")), TokenKind::kSpecial);
  EXPECT_EQ(tokenizer->Kind(*tokenizer->TokenId("▁the")), TokenKind::kText);
  EXPECT_EQ(tokenizer->Kind(tokenizer->vocab_size()), TokenKind::kUnknown);
  EXPECT_EQ(tokenizer->Kind(-1), TokenKind::kUnknown);
}

TEST(TokenizerTest, IdsBeyondTheVocabularyDecodeToNothing) {
  const auto tokenizer = LoadTestTokenizer("byte_level");
  std::vector<int32_t> ids = *tokenizer->Encode("ab", false);
  ids.insert(ids.begin() + 1, 1 << 30);
  EXPECT_EQ(*tokenizer->Decode(ids, false), "ab");
}

TEST(TokenizerTest, InvalidUtf8IsRefusedWithItsPlace) {
  const auto tokenizer = LoadTestTokenizer("byte_level");
  const auto ids = tokenizer->Encode("ok\xC3", true);
  EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(ids.status().message()),
              AllOf(HasSubstr("not valid UTF-8"), HasSubstr("byte 2 of 3")));
}

TEST(TokenizerTest, NegativeIdsAreRefusedWithTheirPlace) {
  const auto tokenizer = LoadTestTokenizer("byte_level");
  const auto text = tokenizer->Decode(std::vector<int32_t>{5, -3}, false);
  EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(text.status().message()), HasSubstr("id -3 at place 1"));
}

TEST(TokenizerTest, ManyThreadsMayEncodeAndDecodeAtOnce) {
  const auto tokenizer = LoadTestTokenizer("llama2_style");
  const std::string text = "The keeper of the lighthouse counted the waves 🦊";
  const std::vector<int32_t> expected = *tokenizer->Encode(text, true);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        if (*tokenizer->Encode(text, true) != expected) ++wrong;
        if (*tokenizer->Decode(expected, true) != text) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

// A model directory with the two files as given.
absl::Status LoadStatus(const std::string& tokenizer_json, const std::string& config_json) {
  const TempDir dir;
  std::ofstream(dir.path() / "tokenizer.json") << tokenizer_json;
  std::ofstream(dir.path() / "tokenizer_config.json") << config_json;
  return Tokenizer::Load(dir.path()).status();
}

TEST(TokenizerTest, MalformedFilesAreRefusedByNameAndReason) {
  const std::string good = ReadTestFile("unigram/tokenizer.json");
  const struct {
    std::string tokenizer, config, expected;
  } cases[] = {
      {"", "{}", "tokenizer.json is not a usable tokenizer"},
      {"{", "{}", "tokenizer.json is not a usable tokenizer"},
      {good.substr(0, good.size() / 2), "{}", "tokenizer.json is not a usable tokenizer"},
      {R"({"version": "1.0", "model": {"type": "Magic"}})", "{}", "tokenizer.json is not a usable"},
      {R"({"version": "1.0", "decoder": {"type": "Magic"}, "model": {}})", "{}",
       "its content makes no tokenizer"},
      {std::string(100000, '['), "{}", "tokenizer.json is not a usable tokenizer"},
      {"\xff\xfe", "{}", "not valid UTF-8"},
      {good, "[1]", "tokenizer_config.json: found a JSON array, expected an object"},
      {good, "{\"bos_token\": ", "tokenizer_config.json is not valid JSON"},
      {good, R"({"added_tokens_decoder": {"x": {}}})", "\"x\" is not a token id"},
      {good, R"({"added_tokens_decoder": {"9": {}}})", "token 9 has no string \"content\""},
      {good, R"({"added_tokens_decoder": {"9": {"content": "<new>"}}})", "should be token 9"},
  };
  for (const auto& [tokenizer, config, expected] : cases) {
    const absl::Status status = LoadStatus(tokenizer, config);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(expected));
  }
}

TEST(TokenizerTest, AnyFlippedByteLoadsOrIsRefused) {
  const std::string good = ReadTestFile("word_piece/tokenizer.json");
  for (size_t i = 0; i < good.size(); i += 7) {
    std::string damaged = good;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x11);
    const absl::Status status = LoadStatus(damaged, "{}");
    EXPECT_TRUE(status.ok() || status.code() == absl::StatusCode::kInvalidArgument) << status;
  }
}

TEST(TokenizerTest, ADirectoryWithAnotherTokenizerSaysHowToConvertIt) {
  const TempDir dir;
  std::ofstream(dir.path() / "tokenizer.model") << "x";
  const absl::Status status = Tokenizer::Load(dir.path()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("no tokenizer.json"), HasSubstr("it has tokenizer.model")));
}

TEST(TokenizerTest, ATokenizerNeedsNoConfiguration) {
  const TempDir dir;
  std::ofstream(dir.path() / "tokenizer.json") << ReadTestFile("unigram/tokenizer.json");
  const auto tokenizer = Tokenizer::Load(dir.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->eos_id(), std::nullopt);
}

TEST(TokenizerTest, TheEmptyTokenizerDecodesEveryIdToNothingAndEncodesNoText) {
  const auto tokenizer = Tokenizer::Empty();
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const std::vector<int32_t> ids = {0, 1, 128255};
  EXPECT_EQ((*tokenizer)->Decode(ids, /*skip_special_tokens=*/false).value_or("?"), "");
  EXPECT_FALSE((*tokenizer)->Encode("once", /*add_special_tokens=*/true).ok());
}

}  // namespace
}  // namespace lockstep::text
