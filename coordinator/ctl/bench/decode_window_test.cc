// Claims on the rate of a full batch: what does not belong to it does not change it.
#include "coordinator/ctl/bench/decode_window.h"

#include <gtest/gtest.h>

namespace lockstep::coordinator {
namespace {

constexpr int64_t kMs = 1'000'000;

/// One token every `step_ms` from `first_ms` on, `count` in all, each `late_us` late.
RequestRecord Steady(int64_t first_ms, int64_t step_ms, int count, int64_t late_us = 0) {
  RequestRecord record;
  for (int i = 0; i < count; ++i) {
    record.arrivals.push_back({(first_ms + i * step_ms) * kMs + late_us * 1000, 1});
  }
  record.done_ns = record.arrivals.back().at_ns;
  return record;
}

TEST(DecodeWindowTest, OneRequestDecodesAtItsOwnRateWhateverItWaitedForItsFirstToken) {
  const std::optional<DecodeWindow> window = FindDecodeWindow({Steady(5000, 20, 51)}, 1);
  ASSERT_TRUE(window);
  EXPECT_EQ(window->requests, 1);
  EXPECT_DOUBLE_EQ(window->seconds, 1.0);
  EXPECT_NEAR(window->tokens_per_second, 50, 1e-9);
}

TEST(DecodeWindowTest, TokensOfAStepThatComeApartDoNotChangeTheRate) {
  std::vector<RequestRecord> records;
  for (int i = 0; i < 32; ++i) records.push_back(Steady(100, 20, 32, 90 * i));
  const std::optional<DecodeWindow> window = FindDecodeWindow(records, 32);
  ASSERT_TRUE(window);
  EXPECT_NEAR(window->tokens_per_second, 32 * 50, 1e-6);
}

TEST(DecodeWindowTest, SlowStepsBeforeTheBatchIsFullDoNotCount) {
  // The first one decodes at 200 ms a step while the second is prefilled.
  RequestRecord first = Steady(0, 200, 6);
  for (int i = 1; i <= 40; ++i) first.arrivals.push_back({(1000 + 10 * i) * kMs, 1});
  const std::optional<DecodeWindow> window = FindDecodeWindow({first, Steady(1000, 10, 41)}, 2);
  ASSERT_TRUE(window);
  EXPECT_DOUBLE_EQ(window->seconds, 0.4);
  EXPECT_NEAR(window->tokens_per_second, 200, 1e-9);
}

TEST(DecodeWindowTest, ThinnerBatchAtTheEndDoesNotCount) {
  RequestRecord longest = Steady(0, 20, 11);
  for (int i = 1; i <= 100; ++i) longest.arrivals.push_back({(200 + 5 * i) * kMs, 1});
  const std::optional<DecodeWindow> window = FindDecodeWindow({longest, Steady(0, 20, 11)}, 2);
  ASSERT_TRUE(window);
  EXPECT_NEAR(window->tokens_per_second, 100, 1e-9);
}

TEST(DecodeWindowTest, SpansOfAClosedLoopAreWeighedByTheirSeconds) {
  // Two at once throughout: 1 s at 10 ms a step, then 3 s at 30 ms a step.
  const std::optional<DecodeWindow> window = FindDecodeWindow(
      {Steady(0, 10, 101), Steady(0, 10, 101), Steady(1500, 30, 101), Steady(1500, 30, 101)}, 2);
  ASSERT_TRUE(window);
  EXPECT_DOUBLE_EQ(window->seconds, 4.0);
  EXPECT_NEAR(window->tokens_per_second, (200.0 + 200.0) / 4, 1e-9);
}

TEST(DecodeWindowTest, MessageOfSeveralTokensCountsThemAll) {
  RequestRecord record = Steady(0, 20, 11);
  for (TokenArrival& arrival : record.arrivals) arrival.tokens = 3;
  EXPECT_NEAR(FindDecodeWindow({record}, 1)->tokens_per_second, 150, 1e-9);
}

TEST(DecodeWindowTest, NothingWhenSoManyNeverDecodedAtOnceOrOnlyForAMessage) {
  EXPECT_FALSE(FindDecodeWindow({}, 1));
  EXPECT_FALSE(FindDecodeWindow({Steady(0, 20, 1)}, 1));
  EXPECT_FALSE(FindDecodeWindow({Steady(0, 10, 11), Steady(200, 10, 11)}, 2));
  EXPECT_FALSE(FindDecodeWindow({Steady(0, 10, 11), Steady(95, 10, 11)}, 2));
  // Where one ends as another begins they were not both decoding.
  EXPECT_FALSE(FindDecodeWindow({Steady(0, 10, 11), Steady(100, 10, 11)}, 2));
}

}  // namespace
}  // namespace lockstep::coordinator
