// Claims on how a run is shown.
#include "coordinator/ctl/bench/result_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nlohmann/json.hpp"

namespace lockstep::coordinator {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

BenchResult Example() {
  BenchResult result{.completed = 98, .failed = 2, .max_in_flight = 16, .seconds = 12.5};
  result.prompt_tokens = 6272;
  result.cached_tokens = 320;
  result.output_tokens = 3136;
  result.requests_per_second = 7.84;
  result.output_tokens_per_second = 250.88;
  result.total_tokens_per_second = 752.64;
  result.ttft_ms = {.count = 98, .mean = 31, .p50 = 30, .p90 = 40, .p99 = 55.25, .max = 60};
  result.decode_window = DecodeWindow{.requests = 16, .seconds = 9, .tokens_per_second = 301.5};
  return result;
}

TEST(ResultFormatTest, TableHasCountsThroughputPercentilesAndDecodeRate) {
  const std::string text = FormatBenchResult(Example());
  for (const char* part : {"98 completed, 2 failed", "at most 16", "6272 of prompts",
                           "320 from the prefix cache", "7.84 requests/s", "250.9 output tokens/s",
                           "301.5 tokens/s", "16 decoded", "p99", "55.25"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  EXPECT_THAT(text, Not(HasSubstr("errors")));
  EXPECT_THAT(text, Not(HasSubstr("load generator itself")));
}

TEST(ResultFormatTest, LatencyThatNothingHadIsADash) {
  const std::string text = FormatBenchResult(Example());
  EXPECT_THAT(text, ::testing::ContainsRegex("between tokens +- +- +- +- +-\n"));
}

TEST(ResultFormatTest, ErrorsAreNamedByCodeWithTheFirstWords) {
  BenchResult result = Example();
  result.errors = {{"OUT_OF_RANGE", 2, "prompt of 9000 tokens, context of 2048"}};
  EXPECT_THAT(FormatBenchResult(result),
              ::testing::ContainsRegex("OUT_OF_RANGE +2 +prompt of 9000 tokens"));
}

TEST(ResultFormatTest, BusyLoadGeneratorSaysThatItMayBeWhatWasMeasured) {
  BenchResult result = Example();
  result.client_cpus = 0.95;
  EXPECT_THAT(FormatBenchResult(result), HasSubstr("0.95 cores"));
}

TEST(ResultFormatTest, JsonHasTheKeysThatVllmUses) {
  const nlohmann::json json = nlohmann::json::parse(FormatBenchResultJson(Example()));
  EXPECT_EQ(json["completed"], 98);
  EXPECT_EQ(json["failed"], 2);
  EXPECT_EQ(json["total_input_tokens"], 6272);
  EXPECT_EQ(json["total_output_tokens"], 3136);
  EXPECT_EQ(json["request_throughput"], 7.84);
  EXPECT_EQ(json["output_throughput"], 250.88);
  EXPECT_EQ(json["median_ttft_ms"], 30);
  EXPECT_EQ(json["p99_ttft_ms"], 55.25);
  EXPECT_EQ(json["max_ttft_ms"], 60);
  for (const char* key : {"mean_tpot_ms", "p90_itl_ms", "p99_e2el_ms", "duration"}) {
    EXPECT_TRUE(json.contains(key)) << key;
  }
  EXPECT_EQ(json["decode_window"]["output_throughput"], 301.5);
  EXPECT_TRUE(json["errors"].empty());
}

TEST(ResultFormatTest, JsonParsesWithBrokenUtf8AndSaysWhenNoWindowWasFound) {
  BenchResult result = Example();
  result.decode_window.reset();
  result.errors = {{"INTERNAL", 1, "\xff\xfe"}};
  const nlohmann::json json = nlohmann::json::parse(FormatBenchResultJson(result));
  EXPECT_TRUE(json["decode_window"].is_null());
  EXPECT_EQ(json["errors"][0]["code"], "INTERNAL");
  EXPECT_EQ(json["errors"][0]["count"], 1);
}

}  // namespace
}  // namespace lockstep::coordinator
