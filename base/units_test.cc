// Byte counts survive the way through flags and messages.
#include "base/units.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockstep {
namespace {

TEST(FormatBytesTest, TakesTheLargestUnitWithAWholePart) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1024), "1.00 KiB");
  EXPECT_EQ(FormatBytes(1331439862), "1.24 GiB");
  EXPECT_EQ(FormatBytes(-3 * 1024 * 1024), "-3.00 MiB");
  EXPECT_EQ(FormatBytes(INT64_MAX), "8192.00 PiB");
}

TEST(ParseBytesTest, ReadsBinaryAndDecimalUnits) {
  EXPECT_EQ(ParseBytes("80GiB").value(), int64_t{80} << 30);
  EXPECT_EQ(ParseBytes("80 gib").value(), int64_t{80} << 30);
  EXPECT_EQ(ParseBytes("512MB").value(), 512000000);
  EXPECT_EQ(ParseBytes("1.5k").value(), 1536);
  EXPECT_EQ(ParseBytes("1073741824").value(), 1073741824);
  EXPECT_EQ(ParseBytes("9223372036854775807").value(), INT64_MAX);
}

TEST(ParseBytesTest, RefusesWhatIsNoByteCount) {
  for (const char* text : {"", "GiB", "-1", "1e9", "nan", "inf", "1.2.3", "12 parsecs",
                           "8388608TiB", "9223372036854775808", "0x10", "1 2"}) {
    absl::StatusOr<int64_t> parsed = ParseBytes(text);
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(parsed.status().message()), testing::HasSubstr("80GiB")) << text;
  }
}

TEST(BytesFlagTest, ReadsWhatItWrites) {
  Bytes bytes;
  std::string error;
  ASSERT_TRUE(AbslParseFlag(AbslUnparseFlag(Bytes{12345}), &bytes, &error));
  EXPECT_EQ(bytes.value, 12345);
  EXPECT_FALSE(AbslParseFlag("much", &bytes, &error));
  EXPECT_THAT(error, testing::HasSubstr("much"));
}

}  // namespace
}  // namespace lockstep
