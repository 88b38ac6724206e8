// The sampler against a distribution in double precision, and the same draws for every division of
// the vocabulary.
#include "worker/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "worker/collective/collective.h"
#include "worker/scan_kernels.h"
#include "worker/testing/reference_sampler.h"

namespace lockstep::worker {
namespace {

constexpr int kVocab = 37;

std::vector<float> RandomLogits(int count, uint32_t seed, double spread) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal(0, spread);
  std::vector<float> logits(count);
  for (float& logit : logits) logit = static_cast<float>(normal(random));
  return logits;
}

// What the draws of a temperature-1 row without any restriction have as probabilities.
std::vector<double> Softmax(const std::vector<float>& logits) {
  return ReferenceProbabilities({logits.begin(), logits.end()}, {.temperature = 1});
}

std::vector<int32_t> Ids(const Choice& choice) {
  std::vector<int32_t> ids;
  for (const ScoredToken& token : choice.alternatives) ids.push_back(token.token);
  return ids;
}

// The vocabulary of `all` divided over `tp` ranks, each a thread with shared-memory collectives.
class Shards {
 public:
  Shards(int tp, int vocab) : tp_(tp), vocab_(vocab) {
    static uint64_t epoch = 1000;
    ++epoch;
    if (tp == 1) {
      groups_.push_back(MakeSoloCollective());
      return;
    }
    std::vector<std::unique_ptr<CollectiveSetup>> setups;
    std::vector<std::string> addresses;
    for (int rank = 0; rank < tp; ++rank) {
      setups.push_back(*MakeShmSetup({epoch, "sampler", rank, tp}, 4096));
      addresses.push_back(setups.back()->address());
    }
    groups_.resize(tp);
    OnEveryRank([&](int rank) {
      groups_[rank] = *setups[rank]->Connect(addresses, absl::Now() + absl::Seconds(20));
    });
  }

  // rows of logits over the whole vocabulary; asserts that all ranks choose the same.
  std::vector<Choice> Choose(const std::vector<std::vector<float>>& logits,
                             const std::vector<LogitRow>& rows) {
    std::vector<std::vector<Choice>> choices(tp_);
    OnEveryRank([&](int rank) {
      const int slice = (vocab_ + tp_ - 1) / tp_;
      const int begin = std::min(vocab_, slice * rank);
      const int end = std::min(vocab_, begin + slice);
      std::vector<float> mine;
      for (const auto& row : logits)
        mine.insert(mine.end(), row.begin() + begin, row.begin() + end);
      kernels::ThreadPool pool(2);
      Sampler sampler({begin, end}, vocab_, *groups_[rank], pool);
      kernels::ConstMatrix view(mine.data(), static_cast<int64_t>(logits.size()), end - begin);
      auto result = sampler.Choose(view, rows);
      EXPECT_TRUE(result.ok()) << result.status();
      if (result.ok()) choices[rank] = *std::move(result);
    });
    for (int rank = 1; rank < tp_; ++rank) {
      for (size_t i = 0; i < rows.size(); ++i) {
        EXPECT_EQ(choices[rank][i].token, choices[0][i].token);
        EXPECT_EQ(choices[rank][i].logprob, choices[0][i].logprob);
        EXPECT_EQ(Ids(choices[rank][i]), Ids(choices[0][i]));
      }
    }
    return choices[0];
  }

 private:
  void OnEveryRank(const std::function<void(int)>& body) {
    std::vector<std::thread> threads;
    for (int rank = 0; rank < tp_; ++rank) threads.emplace_back(body, rank);
    for (std::thread& thread : threads) thread.join();
  }

  const int tp_;
  const int vocab_;
  std::vector<std::unique_ptr<Collective>> groups_;
};

struct Case {
  std::string name;
  Sampling sampling;
  double spread = 1.5;
};

std::vector<Case> Cases() {
  return {
      {"Temperature1", {.temperature = 1, .seed = 3}},
      {"Cold", {.temperature = 0.4, .seed = 4}},
      {"Hot", {.temperature = 3, .seed = 5}},
      {"TopK", {.temperature = 1, .top_k = 5, .seed = 6}},
      {"MinP", {.temperature = 1, .seed = 12, .min_p = 0.05}},
      {"MinPOfAll", {.temperature = 1, .seed = 13, .min_p = 1e-12}},
      {"TopPAndMinP", {.temperature = 1.5, .top_p = 0.9, .seed = 14, .min_p = 0.1}},
      {"EverythingAtOnce",
       {.temperature = 1.2,
        .top_k = 20,
        .top_p = 0.95,
        .seed = 15,
        .min_p = 0.01,
        .repetition_penalty = 1.4,
        .presence_penalty = 0.5,
        .frequency_penalty = -0.3,
        .logit_bias = {{3, 2.0f}, {36, -1.0f}},
        .min_tokens = 9,
        .end_token_ids = {0, 5}}},
      {"TopP", {.temperature = 1, .top_p = 0.7, .seed = 7}},
      {"TopPOfNearlyAll", {.temperature = 1, .top_p = 0.999999, .seed = 8}},
      {"TopKAndTopP", {.temperature = 1.3, .top_k = 12, .top_p = 0.8, .seed = 9}},
      {"Flat", {.temperature = 1, .top_p = 0.5, .seed = 10}, 1e-3},
  };
}

class DistributionTest : public testing::TestWithParam<Case> {};

TEST_P(DistributionTest, IsTheReferencesForEveryDivision) {
  const Case& c = GetParam();
  const std::vector<int32_t> prompt = {1, 1, 4, 30};
  const std::vector<int32_t> output = {4, 9, 9, 2};
  const TokenCounts counts = CountsOf(prompt, output);
  const std::vector<float> logits = RandomLogits(kVocab, 11, c.spread);
  const std::vector<double> expected = ReferenceProbabilities(
      ReferenceProcessed({logits.begin(), logits.end()}, c.sampling, prompt, output), c.sampling);
  constexpr int kDraws = 10000;
  std::vector<LogitRow> rows;
  for (int i = 0; i < kDraws; ++i) {
    rows.push_back({.sampling = &c.sampling,
                    .position = 100 + i,
                    .counts = &counts,
                    .generated = static_cast<int64_t>(output.size())});
  }
  const std::vector<std::vector<float>> same(kDraws, logits);
  std::vector<int32_t> first;
  for (int tp : {1, 2, 4}) {
    std::vector<Choice> choices = Shards(tp, kVocab).Choose(same, rows);
    ASSERT_EQ(choices.size(), rows.size());
    std::vector<int32_t> draws;
    for (const Choice& choice : choices) draws.push_back(choice.token);
    if (tp == 1) first = draws;
    EXPECT_EQ(draws, first) << "TP " << tp;
  }
  EXPECT_GT(ChiSquarePValue(first, expected), 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Sampler, DistributionTest, testing::ValuesIn(Cases()),
                         [](const testing::TestParamInfo<Case>& info) { return info.param.name; });

TEST(SamplerTest, LargeVocabularyDrawsAreTheSameForEveryDivision) {
  constexpr int kLarge = 20011;
  const std::vector<Sampling> samplings = {
      {.temperature = 0},
      {.temperature = 1, .seed = 1},
      {.temperature = 1, .top_k = 256, .seed = 2},
      {.temperature = 1, .top_k = 2000, .seed = 3},  // beyond what candidates cover
      {.temperature = 1, .top_p = 0.3, .seed = 4},
      {.temperature = 5, .top_p = 0.95, .seed = 5},  // beyond what candidates cover
      {.temperature = 0.2, .top_k = 19000, .top_p = 0.9, .seed = 6},
      {.temperature = 8, .top_k = 5000, .top_p = 0.9, .seed = 7},
      {.temperature = 20, .seed = 8, .min_p = 0.5},
      {.temperature = 20, .top_p = 0.5, .seed = 9, .min_p = 0.6},
  };
  std::vector<std::vector<float>> logits;
  std::vector<LogitRow> rows;
  for (size_t i = 0; i < samplings.size(); ++i) {
    for (int position = 0; position < 3; ++position) {
      logits.push_back(RandomLogits(kLarge, static_cast<uint32_t>(i), 3));
      rows.push_back({&samplings[i], position, true});
    }
  }
  rows.push_back({.target = 12345});
  logits.push_back(RandomLogits(kLarge, 77, 3));
  std::vector<Choice> alone = Shards(1, kLarge).Choose(logits, rows);
  for (int tp : {2, 4, 8}) {
    std::vector<Choice> split = Shards(tp, kLarge).Choose(logits, rows);
    for (size_t i = 0; i < rows.size(); ++i) {
      EXPECT_EQ(split[i].token, alone[i].token) << "row " << i << ", TP " << tp;
      EXPECT_NEAR(split[i].logprob, alone[i].logprob, 1e-6);
    }
  }
}

TEST(SamplerTest, GreedyTiesGoToTheLowestIdAcrossShards) {
  std::vector<float> logits(kVocab, 0.0f);
  logits[30] = logits[12] = logits[13] = 2.0f;
  const Sampling greedy;
  for (int tp : {1, 2, 4, 8}) {
    EXPECT_EQ(Shards(tp, kVocab).Choose({logits}, {{&greedy, 0}})[0].token, 12);
  }
}

TEST(SamplerTest, LogprobIsOfTheRawDistribution) {
  const std::vector<float> logits = RandomLogits(kVocab, 5, 2);
  const Sampling warm{.temperature = 2.5, .top_k = 3, .seed = 8};
  std::vector<double> raw = Softmax(logits);
  for (int tp : {1, 4}) {
    std::vector<Choice> choices =
        Shards(tp, kVocab).Choose({logits, logits}, {{&warm, 3, true}, {.target = 9}});
    EXPECT_NEAR(choices[0].logprob, std::log(raw[choices[0].token]), 1e-6);
    EXPECT_EQ(choices[1].token, 9);
    EXPECT_NEAR(choices[1].logprob, std::log(raw[9]), 1e-6);
  }
}

TEST(SamplerTest, WideRowsKeepWhatTheReferenceKeeps) {
  constexpr int kLarge = 3000;
  constexpr int kDraws = 1500;
  const std::vector<float> logits = RandomLogits(kLarge, 21, 1);
  for (const Sampling& sampling :
       {Sampling{.temperature = 1, .top_p = 0.8, .seed = 1},
        Sampling{.temperature = 2, .top_k = 1500, .top_p = 0.7, .seed = 2},
        Sampling{.temperature = 3, .top_k = 1100, .seed = 3},
        Sampling{.temperature = 9, .seed = 4, .min_p = 0.55}}) {
    const std::vector<double> expected =
        ReferenceProbabilities({logits.begin(), logits.end()}, sampling);
    std::vector<LogitRow> rows;
    for (int i = 0; i < kDraws; ++i) rows.push_back({.sampling = &sampling, .position = i});
    std::vector<int32_t> draws;
    for (const Choice& choice : Shards(2, kLarge).Choose(std::vector(kDraws, logits), rows)) {
      draws.push_back(choice.token);
    }
    const auto kept =
        std::count_if(expected.begin(), expected.end(), [](double p) { return p > 0; });
    EXPECT_GT(kept, Sampler::kCandidates) << "not wide";
    EXPECT_LT(kept, kLarge) << "keeps all";
    EXPECT_GT(ChiSquarePValue(draws, expected), 1e-6);
  }
}

TEST(SamplerTest, AlternativesAreTheMostProbableOfTheRawDistribution) {
  std::vector<float> logits = RandomLogits(kVocab, 6, 2);
  logits[33] = logits[2] = 9;  // a tie for the first place
  const Sampling biased{.temperature = 1, .seed = 1, .logit_bias = {{7, 100.0f}}};
  const std::vector<double> raw = Softmax(logits);
  std::vector<int32_t> order(kVocab);
  for (int i = 0; i < kVocab; ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  for (int tp : {1, 2, 4, 8}) {
    std::vector<Choice> choices =
        Shards(tp, kVocab)
            .Choose({logits, logits, logits},
                    {{.sampling = &biased, .position = 1, .logprob = true, .alternatives = 5},
                     {.target = 36, .alternatives = 20},
                     {.target = 36}});
    EXPECT_EQ(choices[0].token, 7) << "the bias decides";
    EXPECT_NEAR(choices[0].logprob, std::log(raw[7]), 1e-6) << "and leaves the raw distribution";
    EXPECT_EQ(Ids(choices[0]), std::vector(order.begin(), order.begin() + 5));
    EXPECT_EQ(Ids(choices[1]), std::vector(order.begin(), order.begin() + 20));
    EXPECT_TRUE(choices[2].alternatives.empty());
    for (const ScoredToken& token : choices[1].alternatives) {
      EXPECT_NEAR(token.logprob, std::log(raw[token.token]), 1e-6);
    }
  }
}

TEST(SamplerTest, MoreAlternativesThanIdsAreAllOfThem) {
  const std::vector<float> logits = RandomLogits(6, 3, 1);
  for (int tp : {1, 4}) {
    EXPECT_EQ(Ids(Shards(tp, 6).Choose({logits}, {{.target = 0, .alternatives = 20}})[0]).size(),
              6u);
  }
}

TEST(SamplerTest, AlmostNoTemperatureIsGreedy) {
  const std::vector<float> flat(kVocab, 1.0f);
  const Sampling cold{.temperature = 1e-300, .seed = 1};
  EXPECT_EQ(Shards(2, kVocab).Choose({flat}, {{&cold, 0}})[0].token, 0);
}

TEST(SamplerTest, SeedChoiceAndPositionEachChangeTheDraw) {
  const std::vector<float> flat(kVocab, 0.0f);
  auto draws = [&](uint64_t seed, uint32_t choice, int64_t first_position) {
    Sampling sampling{.temperature = 1, .seed = seed, .choice = choice};
    std::vector<LogitRow> rows;
    for (int i = 0; i < 32; ++i) rows.push_back({&sampling, first_position + i});
    std::vector<int32_t> tokens;
    for (const Choice& c : Shards(1, kVocab).Choose(std::vector(32, flat), rows)) {
      tokens.push_back(c.token);
    }
    return tokens;
  };
  EXPECT_EQ(draws(1, 0, 0), draws(1, 0, 0));
  EXPECT_NE(draws(1, 0, 0), draws(2, 0, 0));
  EXPECT_NE(draws(1, 0, 0), draws(1, 1, 0));
  EXPECT_NE(draws(1, 0, 0), draws(1, 0, 1));
}

TEST(SamplerTest, LogitsThatAreNotFiniteAreAnErrorNotACrash) {
  std::vector<float> logits(kVocab, std::numeric_limits<float>::quiet_NaN());
  auto solo = MakeSoloCollective();
  kernels::ThreadPool pool(1);
  Sampler sampler({0, kVocab}, kVocab, *solo, pool);
  const Sampling greedy;
  const LogitRow row{&greedy, 4};
  auto choices = sampler.Choose({logits.data(), 1, kVocab}, {&row, 1});
  EXPECT_EQ(choices.status().code(), absl::StatusCode::kInternal);
}

TEST(NoiseTest, TheUpperBoundHolds) {
  Noise noise(1, 2, 3);
  for (int32_t id = 0; id < 200000; ++id) {
    ASSERT_LE(noise.Gumbel(id), noise.UpperBound(id)) << id;
  }
}

TEST(NoiseTest, NoIdAboveTheThresholdHasMoreNoise) {
  const Noise noise(4, 5, 6);
  for (double gumbel : {-3.0, -0.5, 0.0, 1.0, 4.0, 9.0}) {
    const uint64_t threshold = MixThreshold(std::exp(-gumbel));
    int passed = 0;
    int more = 0;
    for (int32_t id = 0; id < 50000; ++id) {
      const bool passes = Mix64(noise.StreamAt(id)) < threshold;
      ASSERT_TRUE(passes || noise.Gumbel(id) <= gumbel) << id;
      passed += passes;
      more += noise.Gumbel(id) > gumbel;
    }
    if (gumbel < 1) continue;
    EXPECT_LE(passed, more * 1.3 + 5) << "the bound is worth little";
  }
}

TEST(NoiseTest, IsFixedForGood) {
  // A changed value changes what users get for their seeds.
  // These come from the definition in noise.h, computed by a program of its own.
  EXPECT_DOUBLE_EQ(Noise(42, 0, 7).Gumbel(11), -0.2524081585918439);
  EXPECT_DOUBLE_EQ(Noise(~uint64_t{0}, 3, 2047).Gumbel(128255), -0.5223975493640672);
}

}  // namespace
}  // namespace lockstep::worker
