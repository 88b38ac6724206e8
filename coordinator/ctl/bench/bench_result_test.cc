// Claims on the figures of a run, from records small enough to reckon by hand.
#include "coordinator/ctl/bench/bench_result.h"

#include <gtest/gtest.h>

namespace lockstep::coordinator {
namespace {

constexpr int64_t kMs = 1'000'000;

RequestRecord Completed(int64_t sent_ms, const std::vector<int64_t>& token_ms, int64_t done_ms) {
  RequestRecord record{.sent_ns = sent_ms * kMs, .done_ns = done_ms * kMs};
  for (int64_t at_ms : token_ms) record.arrivals.push_back({at_ms * kMs, 1});
  record.prompt_tokens = 10;
  record.cached_tokens = 4;
  return record;
}

RequestRecord Failed(absl::Status status, int64_t done_ms) {
  RequestRecord record{.done_ns = done_ms * kMs};
  record.status = std::move(status);
  return record;
}

TEST(BenchResultTest, NoRequestGivesZerosEverywhere) {
  const BenchResult result = MakeBenchResult({}, 1);
  EXPECT_EQ(result.completed + result.failed, 0);
  EXPECT_EQ(result.requests_per_second, 0);
  EXPECT_FALSE(result.decode_window);
}

TEST(BenchResultTest, LatenciesOfTwoRequestsAreThoseOfTheirTimes) {
  LoadResult load;
  load.max_in_flight = 2;
  load.cpu_seconds = 0.5;
  load.records = {Completed(100, {300, 400, 520}, 521), Completed(0, {50, 60}, 1100)};
  const BenchResult result = MakeBenchResult(load, 2);
  EXPECT_EQ(result.completed, 2);
  EXPECT_EQ(result.failed, 0);
  EXPECT_DOUBLE_EQ(result.seconds, 1.1);
  EXPECT_DOUBLE_EQ(result.ttft_ms.mean, (200 + 50) / 2.0);
  EXPECT_DOUBLE_EQ(result.tpot_ms.max, 110);
  EXPECT_EQ(result.itl_ms.count, 3);
  EXPECT_DOUBLE_EQ(result.itl_ms.max, 120);
  EXPECT_DOUBLE_EQ(result.e2el_ms.max, 1100);
  EXPECT_EQ(result.prompt_tokens, 20);
  EXPECT_EQ(result.cached_tokens, 8);
  EXPECT_EQ(result.output_tokens, 5);
  EXPECT_DOUBLE_EQ(result.requests_per_second, 2 / 1.1);
  EXPECT_DOUBLE_EQ(result.output_tokens_per_second, 5 / 1.1);
  EXPECT_DOUBLE_EQ(result.total_tokens_per_second, 25 / 1.1);
  EXPECT_DOUBLE_EQ(result.client_cpus, 0.5 / 1.1);
}

TEST(BenchResultTest, TokensOfOneMessageShareItsTimeAndCountOneGap) {
  LoadResult load;
  load.records = {Completed(0, {100, 200}, 200)};
  load.records[0].arrivals[1].tokens = 4;
  const BenchResult result = MakeBenchResult(load, std::nullopt);
  EXPECT_EQ(result.output_tokens, 5);
  EXPECT_EQ(result.itl_ms.count, 1);
  EXPECT_DOUBLE_EQ(result.tpot_ms.mean, 25);
  EXPECT_FALSE(result.decode_window);
}

TEST(BenchResultTest, FailuresAreCountedByCodeAndKeptOutOfLatencies) {
  LoadResult load;
  load.records = {Failed(absl::UnavailableError("gone"), 1),
                  Failed(absl::ResourceExhaustedError("the queue is full: 8"), 2),
                  Completed(0, {10, 20}, 20),
                  Failed(absl::ResourceExhaustedError("the queue is full: 9"), 3)};
  load.records[1].arrivals = {{1, 1}};
  const BenchResult result = MakeBenchResult(load, std::nullopt);
  EXPECT_EQ(result.completed, 1);
  EXPECT_EQ(result.failed, 3);
  EXPECT_EQ(result.output_tokens, 2);
  EXPECT_EQ(result.e2el_ms.count, 1);
  ASSERT_EQ(result.errors.size(), 2);
  EXPECT_EQ(result.errors[0].code, "RESOURCE_EXHAUSTED");
  EXPECT_EQ(result.errors[0].count, 2);
  EXPECT_EQ(result.errors[0].message, "the queue is full: 8");
  EXPECT_EQ(result.errors[1].code, "UNAVAILABLE");
}

}  // namespace
}  // namespace lockstep::coordinator
