// Claims on the progress line, from literals.
#include "coordinator/ctl/bench/progress_format.h"

#include <gtest/gtest.h>

namespace lockstep::coordinator {
namespace {

TEST(ProgressFormatTest, BarShowsShareCountsRateAndTimeLeft) {
  const LoadProgress progress{
      .seconds = 3, .sent = 15, .done = 12, .failed = 1, .output_tokens = 750};
  EXPECT_EQ(FormatProgressBar(progress, {.requests = 48}),
            "[#####---------------]  25%  12/48 requests, 1 failed, 3 running, 250 tokens/s, "
            "9 s left");
}

TEST(ProgressFormatTest, RunByTimeShowsNoTotalOfRequests) {
  const LoadProgress progress{.seconds = 5, .sent = 9, .done = 8, .output_tokens = 10};
  EXPECT_EQ(FormatProgressBar(progress, {.seconds = 10}),
            "[##########----------]  50%  8 requests, 1 running, 2 tokens/s, 5 s left");
}

TEST(ProgressFormatTest, BeforeTheFirstSecondNothingIsDividedByZero) {
  EXPECT_EQ(FormatProgressBar({}, {.requests = 4}),
            "[--------------------]   0%  0/4 requests, 0 running");
}

TEST(ProgressFormatTest, WhatEndsTheRunSoonerIsTheShareAndItNeverPassesOne) {
  EXPECT_DOUBLE_EQ(FractionDone({.seconds = 1, .done = 6}, {.requests = 8, .seconds = 10}), 0.75);
  EXPECT_DOUBLE_EQ(FractionDone({.seconds = 9, .done = 2}, {.requests = 8, .seconds = 10}), 0.9);
  EXPECT_DOUBLE_EQ(FractionDone({.seconds = 12, .done = 2}, {.seconds = 10}), 1);
}

}  // namespace
}  // namespace lockstep::coordinator
