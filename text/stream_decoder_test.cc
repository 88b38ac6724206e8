// The incremental detokenizer: for any ids, the pieces add up to the decoded whole and each is
// valid UTF-8 by itself.
#include "text/stream_decoder.h"

#include <random>

#include "gtest/gtest.h"
#include "text/testing.h"

namespace lockstep::text {
namespace {

// Whether `text` is well-formed UTF-8 (length bytes and continuation bytes; enough to see a cut).
bool IsWholeUtf8(const std::string& text) {
  size_t i = 0;
  while (i < text.size()) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80 ? 1 : lead < 0xC0 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (length == 0 || i + length > text.size()) return false;
    for (size_t k = 1; k < length; ++k) {
      if ((static_cast<unsigned char>(text[i + k]) & 0xC0) != 0x80) return false;
    }
    i += length;
  }
  return true;
}

// The pieces of `ids`, Flush() last.
std::vector<std::string> Pieces(const Tokenizer& tokenizer, const std::vector<int32_t>& ids,
                                bool skip_special_tokens) {
  StreamDecoder decoder(tokenizer, skip_special_tokens);
  std::vector<std::string> pieces;
  for (const int32_t id : ids) pieces.push_back(decoder.Push(id).value());
  pieces.push_back(decoder.Flush());
  return pieces;
}

void ExpectPiecesAddUp(const Tokenizer& tokenizer, const std::vector<int32_t>& ids,
                       bool skip_special_tokens) {
  std::string joined;
  for (const std::string& piece : Pieces(tokenizer, ids, skip_special_tokens)) {
    EXPECT_TRUE(IsWholeUtf8(piece)) << ::testing::PrintToString(ids);
    joined += piece;
  }
  EXPECT_EQ(joined, *tokenizer.Decode(ids, skip_special_tokens)) << ::testing::PrintToString(ids);
}

TEST(StreamDecoderTest, PiecesOfRandomIdsAddUpToTheDecodedWhole) {
  std::mt19937 random(20240611);
  for (const std::string& family : kFamilies) {
    SCOPED_TRACE(family);
    const auto tokenizer = LoadTestTokenizer(family);
    // Some ids beyond the vocabulary, as a model with a padded one may sample.
    std::uniform_int_distribution<int32_t> any_id(0, tokenizer->vocab_size() + 3);
    std::uniform_int_distribution<int> any_length(0, 40);
    for (int round = 0; round < 400; ++round) {
      std::vector<int32_t> ids(any_length(random));
      for (int32_t& id : ids) id = any_id(random);
      ExpectPiecesAddUp(*tokenizer, ids, round % 2 == 0);
    }
  }
}

TEST(StreamDecoderTest, PiecesOfCutAndSplicedTextsAddUpToTheDecodedWhole) {
  std::mt19937 random(7);
  const std::string text =
      "Größe 🦊🏮 日本語 👩‍👩‍👧 and plain words, café  with  spaces";
  for (const std::string& family : kFamilies) {
    SCOPED_TRACE(family);
    const auto tokenizer = LoadTestTokenizer(family);
    const std::vector<int32_t> ids = *tokenizer->Encode(text, true);
    std::uniform_int_distribution<size_t> any_place(0, ids.size());
    for (int round = 0; round < 200; ++round) {
      // Bytes of one character followed by those of another one, and by spaces of a cut word.
      std::vector<int32_t> spliced(ids.begin(), ids.begin() + any_place(random));
      spliced.insert(spliced.end(), ids.begin() + any_place(random), ids.end());
      ExpectPiecesAddUp(*tokenizer, spliced, round % 2 == 0);
    }
  }
}

TEST(StreamDecoderTest, PlainWordsComeOutWithTheirOwnToken) {
  const auto tokenizer = LoadTestTokenizer("llama2_style");
  StreamDecoder decoder(*tokenizer, true);
  EXPECT_EQ(*decoder.Push(*tokenizer->TokenId("<s>")), "");
  EXPECT_EQ(*decoder.Push(*tokenizer->TokenId("▁the")), "the");
  EXPECT_EQ(*decoder.Push(*tokenizer->TokenId("▁the")), " the");
  EXPECT_EQ(decoder.Flush(), "");
}

TEST(StreamDecoderTest, ACharacterOfSeveralByteTokensComesOutWhole) {
  const auto tokenizer = LoadTestTokenizer("byte_level");
  StreamDecoder decoder(*tokenizer, true);
  const std::vector<int32_t> ids = *tokenizer->Encode("🦊", false);
  ASSERT_GE(ids.size(), 2u);
  for (size_t i = 0; i + 1 < ids.size(); ++i) EXPECT_EQ(*decoder.Push(ids[i]), "");
  EXPECT_EQ(*decoder.Push(ids.back()), "🦊");
}

TEST(StreamDecoderTest, AnUnfinishedCharacterIsFlushedAsItsReplacement) {
  const auto tokenizer = LoadTestTokenizer("byte_level");
  StreamDecoder decoder(*tokenizer, true);
  EXPECT_EQ(*decoder.Push(tokenizer->Encode("🦊", false)->front()), "");
  EXPECT_EQ(decoder.Flush(), "\uFFFD");
  EXPECT_EQ(decoder.Flush(), "");
}

TEST(StreamDecoderTest, ANegativeIdIsRefusedAndLeavesTheStreamIntact) {
  const auto tokenizer = LoadTestTokenizer("byte_level");
  StreamDecoder decoder(*tokenizer, true);
  const std::vector<int32_t> ids = *tokenizer->Encode("🦊", false);
  EXPECT_EQ(*decoder.Push(ids[0]), "");
  EXPECT_EQ(decoder.Push(-1).status().code(), absl::StatusCode::kInvalidArgument);
  std::string rest;
  for (size_t i = 1; i < ids.size(); ++i) rest += *decoder.Push(ids[i]);
  EXPECT_EQ(rest, "🦊");
}

}  // namespace
}  // namespace lockstep::text
