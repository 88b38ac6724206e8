// TextOutput against the text of all tokens at once, cut by hand.
#include "coordinator/serve/text_output.h"

#include <memory>
#include <random>

#include "coordinator/serve/testing/byte_tokenizer.h"
#include "gtest/gtest.h"

namespace lockstep::coordinator {
namespace {

class TextOutputTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { tokenizer_ = MakeByteTokenizer().release(); }
  static void TearDownTestSuite() { delete tokenizer_; }

  // The pieces of a text that comes byte by byte, one a token, and then ends.
  std::vector<std::string> Pieces(std::string_view text) {
    TextOutput output(*tokenizer_, options_);
    std::vector<std::string> pieces;
    for (const char c : text) output.Push(static_cast<uint8_t>(c), pieces.emplace_back());
    output.Flush(pieces.emplace_back());
    stopped_by_ = output.stopped_by();
    return pieces;
  }

  std::string Text(std::string_view text) {
    std::string all;
    for (const std::string& piece : Pieces(text)) all += piece;
    return all;
  }

  static const text::Tokenizer* tokenizer_;
  TextOptions options_;
  std::optional<std::string> stopped_by_;
};
const text::Tokenizer* TextOutputTest::tokenizer_ = nullptr;

TEST_F(TextOutputTest, WithoutStopStringsTextIsGivenAsItComes) {
  EXPECT_EQ(Pieces("ab"), (std::vector<std::string>{"a", "b", ""}));
  EXPECT_FALSE(stopped_by_);
}

TEST_F(TextOutputTest, CharactersAreGivenWhole) {
  EXPECT_EQ(Pieces("\xc3\xb6"), (std::vector<std::string>{"", "ö", ""}));
}

TEST_F(TextOutputTest, AStopStringAcrossTokensEndsTheTextBeforeItself) {
  options_.stop = {"end"};
  EXPECT_EQ(Pieces("an end of it"),
            (std::vector<std::string>{"a", "n", " ", "", "", "", "", "", "", "", "", "", ""}));
  EXPECT_EQ(stopped_by_, "end");
}

TEST_F(TextOutputTest, AStopStringMayBeLeftInTheText) {
  options_.stop = {"end"};
  options_.include_stop_in_output = true;
  EXPECT_EQ(Text("an end of it"), "an end");
}

TEST_F(TextOutputTest, WhatOnlyBeganLikeAStopStringIsGivenInTheEnd) {
  options_.stop = {"ended"};
  EXPECT_EQ(Text("the end"), "the end");
  EXPECT_FALSE(stopped_by_);
  EXPECT_EQ(Text("eendended"), "eend");
}

TEST_F(TextOutputTest, TheStopStringThatIsCompleteFirstWins) {
  options_.stop = {"owl", "an o"};
  EXPECT_EQ(Text("see an owl"), "see ");
  EXPECT_EQ(stopped_by_, "an o");
}

TEST_F(TextOutputTest, StopStringsInTheFirstMinTokensAreText) {
  options_.stop = {"a"};
  options_.min_tokens = 3;
  EXPECT_EQ(Text("aaaxyab"), "aaaxy");
  EXPECT_EQ(stopped_by_, "a");
}

TEST_F(TextOutputTest, AnUnfinishedCharacterAtTheEndIsReplacedAndSearched) {
  options_.stop = {"\xef\xbf\xbd"};
  EXPECT_EQ(Text("ab\xc3"), "ab");
  EXPECT_EQ(stopped_by_, "\xef\xbf\xbd");
}

TEST_F(TextOutputTest, AnyTextAndAnyStopStringsGiveTheTextCutAtTheFirstToBeComplete) {
  std::mt19937_64 random(5);
  auto letters = [&random](size_t most) {
    std::string text;
    for (size_t i = 1 + random() % most; i > 0; --i) text += "abö"[random() % 2];
    if (random() % 3 == 0) text += "ö";
    return text;
  };
  for (int round = 0; round < 2000; ++round) {
    const std::string text = letters(30);
    options_.stop = {letters(4), letters(4)};
    // A text that grows to the first end of a stop string, the longer one where both end there.
    std::string expected = text;
    bool stopped = false;
    for (size_t end = 1; end <= text.size() && !stopped; ++end) {
      for (const std::string& stop : options_.stop) {
        const std::string grown = text.substr(0, end);
        if (!grown.ends_with(stop)) continue;
        expected.resize(std::min(expected.size(), end - stop.size()));
        stopped = true;
      }
    }
    EXPECT_EQ(Text(text), expected) << text;
    EXPECT_EQ(stopped_by_.has_value(), stopped);
  }
}

}  // namespace
}  // namespace lockstep::coordinator
