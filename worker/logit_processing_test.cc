// Processing against the double-precision reference, for every division of the vocabulary.
#include "worker/logit_processing.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "worker/testing/reference_sampler.h"

namespace lockstep::worker {
namespace {

constexpr int kVocab = 50;
const std::vector<int32_t> kPrompt = {3, 3, 7, 20, 49};
const std::vector<int32_t> kOutput = {7, 8, 8, 8, 0};

std::vector<float> RandomLogits() {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> logits(kVocab);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

struct Case {
  std::string name;
  Sampling sampling;
};

class ProcessingTest : public testing::TestWithParam<Case> {};

TEST_P(ProcessingTest, IsTheReferencesWhateverTheSlices) {
  const Sampling& sampling = GetParam().sampling;
  const std::vector<float> raw = RandomLogits();
  const auto generated = static_cast<int64_t>(kOutput.size());
  ASSERT_TRUE(ChangesLogits(sampling, generated));
  const std::vector<double> expected =
      ReferenceProcessed({raw.begin(), raw.end()}, sampling, kPrompt, kOutput);
  const TokenCounts counts = CountsOf(kPrompt, kOutput);
  for (size_t slice : {50, 25, 13, 1}) {
    std::vector<float> actual = raw;
    for (size_t first = 0; first < actual.size(); first += slice) {
      ProcessLogits(sampling, &counts, generated, kVocab, static_cast<int32_t>(first),
                    std::span(actual).subspan(first, std::min(slice, actual.size() - first)));
    }
    for (int id = 0; id < kVocab; ++id) {
      if (std::isinf(expected[id])) {
        EXPECT_EQ(actual[id], expected[id]) << "id " << id;
      } else {
        EXPECT_NEAR(actual[id], expected[id], 1e-5) << "id " << id << ", slices of " << slice;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Processing, ProcessingTest,
    testing::Values(Case{"Repetition", {.repetition_penalty = 1.7}},
                    Case{"RepetitionBelowOne", {.repetition_penalty = 0.5}},
                    Case{"Presence", {.presence_penalty = 1.5}},
                    Case{"Frequency", {.frequency_penalty = -0.75}},
                    Case{"Bias", {.logit_bias = {{0, 5.5f}, {49, -100.0f}, {7, 0.25f}}}},
                    Case{"MinTokens", {.min_tokens = 6, .end_token_ids = {2, 7, 49}}},
                    Case{"Everything",
                         {.repetition_penalty = 1.3,
                          .presence_penalty = -0.5,
                          .frequency_penalty = 0.4,
                          .logit_bias = {{3, 2.0f}, {8, 9.0f}},
                          .min_tokens = 100,
                          .end_token_ids = {1, 8}}}),
    [](const testing::TestParamInfo<Case>& info) { return info.param.name; });

TEST(LogitProcessingTest, NeutralParametersChangeNothing) {
  EXPECT_FALSE(ChangesLogits({.temperature = 1, .top_k = 3, .top_p = 0.5, .min_p = 0.1}, 0));
  EXPECT_FALSE(ChangesLogits({.min_tokens = 5, .end_token_ids = {1}}, 5)) << "enough are there";
  EXPECT_FALSE(ChangesLogits({.min_tokens = 5}, 0)) << "no end token to hold back";
}

TEST(LogitProcessingTest, ATinyPenaltyLeavesLogitsFinite) {
  std::vector<float> logits = {1, -1, 1e10f};
  const TokenCounts counts = CountsOf({{0, 1, 2}}, {});
  ProcessLogits({.repetition_penalty = 1e-300}, &counts, 0, 3, 0, logits);
  for (float logit : logits) EXPECT_TRUE(std::isfinite(logit));
}

TEST(LogitProcessingTest, AVocabularyOfEndTokensIsNotMasked) {
  std::vector<float> logits = {1, 2};
  ProcessLogits({.min_tokens = 9, .end_token_ids = {0, 1}}, nullptr, 0, 2, 0, logits);
  EXPECT_EQ(logits, (std::vector<float>{1, 2}));
}

}  // namespace
}  // namespace lockstep::worker
