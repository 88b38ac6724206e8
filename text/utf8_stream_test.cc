// Characters come whole, and what spells none is replaced as by the standard's own examples.
#include "text/utf8_stream.h"

#include "gtest/gtest.h"

namespace lockstep::text {
namespace {

constexpr char kReplacement[] = "\xEF\xBF\xBD";

std::string Replacements(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += kReplacement;
  return text;
}

// All at once, and byte by byte.
void ExpectText(std::string_view bytes, const std::string& expected) {
  Utf8Stream at_once;
  std::string text = at_once.Push(bytes);
  EXPECT_EQ(text + at_once.Flush(), expected);
  Utf8Stream one_by_one;
  text.clear();
  for (const char byte : bytes) text += one_by_one.Push({&byte, 1});
  EXPECT_EQ(text + one_by_one.Flush(), expected);
}

TEST(Utf8StreamTest, WellFormedTextStaysAsItIs) {
  for (const std::string text :
       {"", "plain", "zwölf", "日本語", "🦊\xF4\x8F\xBF\xBF\xED\x9F\xBF"}) {
    ExpectText(text, text);
  }
}

TEST(Utf8StreamTest, ACharacterComesWithItsLastByte) {
  Utf8Stream stream;
  EXPECT_EQ(stream.Push("a\xF0\x9F"), "a");
  EXPECT_EQ(stream.Push("\xA6"), "");
  EXPECT_EQ(stream.Push("\x8A!"), "\xF0\x9F\xA6\x8A!");
  EXPECT_EQ(stream.Flush(), "");
}

TEST(Utf8StreamTest, ACharacterThatNeverEndsIsReplacedOnce) {
  ExpectText("a\xF0\x9F\xA6", "a" + Replacements(1));
  ExpectText(
      "\xF0\x9F\xA6"
      "b",
      Replacements(1) + "b");
}

// The Unicode Standard, 15.0, tables 3-8 to 3-11.
TEST(Utf8StreamTest, MaximalSubpartsAreReplacedAsTheStandardRecommends) {
  ExpectText("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", Replacements(8) + "A");
  ExpectText("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", Replacements(8) + "A");
  ExpectText("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", Replacements(5) + "A" + Replacements(2) + "B");
  ExpectText("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", Replacements(4) + "A");
}

}  // namespace
}  // namespace lockstep::text
