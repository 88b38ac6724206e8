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

// The probabilities that the documentation promises.
std::vector<double> Reference(const std::vector<float>& logits, const Sampling& sampling) {
  std::vector<int> order(logits.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return logits[a] > logits[b]; });
  std::vector<double> weights(logits.size());
  for (size_t i = 0; i < order.size(); ++i) {
    bool kept = sampling.top_k == 0 || static_cast<int>(i) < sampling.top_k;
    if (kept) weights[order[i]] = std::exp(logits[order[i]] / sampling.temperature);
  }
  auto normalize = [&] {
    double sum = 0;
    for (double weight : weights) sum += weight;
    for (double& weight : weights) weight /= sum;
  };
  normalize();
  double before = 0;
  for (int id : order) {
    if (before >= sampling.top_p) weights[id] = 0;
    before += weights[id];
  }
  normalize();
  return weights;
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
      Sampler sampler({begin, end}, slice, *groups_[rank], pool);
      kernels::ConstMatrix view(mine.data(), static_cast<int64_t>(logits.size()), end - begin);
      auto result = sampler.Choose(view, rows);
      EXPECT_TRUE(result.ok()) << result.status();
      if (result.ok()) choices[rank] = *std::move(result);
    });
    for (int rank = 1; rank < tp_; ++rank) {
      for (size_t i = 0; i < rows.size(); ++i) {
        EXPECT_EQ(choices[rank][i].token, choices[0][i].token);
        EXPECT_EQ(choices[rank][i].logprob, choices[0][i].logprob);
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
      {"TopP", {.temperature = 1, .top_p = 0.7, .seed = 7}},
      {"TopPOfNearlyAll", {.temperature = 1, .top_p = 0.999999, .seed = 8}},
      {"TopKAndTopP", {.temperature = 1.3, .top_k = 12, .top_p = 0.8, .seed = 9}},
      {"Flat", {.temperature = 1, .top_p = 0.5, .seed = 10}, 1e-3},
  };
}

class DistributionTest : public testing::TestWithParam<Case> {};

// Chi-square with the Wilson-Hilferty normal approximation; fails by chance once in 10^6.
TEST_P(DistributionTest, IsTheReferencesForEveryDivision) {
  const Case& c = GetParam();
  const std::vector<float> logits = RandomLogits(kVocab, 11, c.spread);
  const std::vector<double> expected = Reference(logits, c.sampling);
  constexpr int kDraws = 10000;
  std::vector<LogitRow> rows;
  for (int i = 0; i < kDraws; ++i) rows.push_back({&c.sampling, 100 + i});
  const std::vector<std::vector<float>> same(kDraws, logits);
  std::vector<Choice> first;
  for (int tp : {1, 2, 4}) {
    std::vector<Choice> choices = Shards(tp, kVocab).Choose(same, rows);
    ASSERT_EQ(choices.size(), rows.size());
    if (tp == 1) first = choices;
    for (int i = 0; i < kDraws; ++i) ASSERT_EQ(choices[i].token, first[i].token) << "TP " << tp;
  }
  std::vector<int> counts(kVocab);
  for (const Choice& choice : first) ++counts[choice.token];
  double chi_square = 0;
  int cells = 0;
  double rest_expected = 0;
  double rest_count = 0;
  for (int id = 0; id < kVocab; ++id) {
    double mean = expected[id] * kDraws;
    if (expected[id] == 0) {
      EXPECT_EQ(counts[id], 0) << "id " << id << " is not among the kept";
    } else if (mean < 10) {
      rest_expected += mean;
      rest_count += counts[id];
    } else {
      chi_square += (counts[id] - mean) * (counts[id] - mean) / mean;
      ++cells;
    }
  }
  if (rest_expected > 0) {
    chi_square += (rest_count - rest_expected) * (rest_count - rest_expected) / rest_expected;
    ++cells;
  }
  double freedom = cells - 1;
  if (freedom < 1) return;
  double spread = 2 / (9 * freedom);
  double z = (std::cbrt(chi_square / freedom) - (1 - spread)) / std::sqrt(spread);
  EXPECT_LT(z, 4.8) << "chi-square " << chi_square << " of " << freedom;
}

INSTANTIATE_TEST_SUITE_P(Sampler, DistributionTest, testing::ValuesIn(Cases()),
                         [](const testing::TestParamInfo<Case>& info) { return info.param.name; });

TEST(SamplerTest, LargeVocabularyDrawsAreTheSameForEveryDivision) {
  constexpr int kLarge = 20011;
  const std::vector<Sampling> samplings = {
      {.temperature = 0},
      {.temperature = 1, .seed = 1},
      {.temperature = 1, .top_k = 256, .seed = 2},
      {.temperature = 1, .top_k = 300, .seed = 3},  // beyond what candidates cover
      {.temperature = 1, .top_p = 0.3, .seed = 4},
      {.temperature = 5, .top_p = 0.95, .seed = 5},  // beyond what candidates cover
      {.temperature = 0.2, .top_k = 19000, .top_p = 0.9, .seed = 6},
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
  std::vector<double> raw = Reference(logits, {.temperature = 1});
  for (int tp : {1, 4}) {
    std::vector<Choice> choices =
        Shards(tp, kVocab).Choose({logits, logits}, {{&warm, 3, true}, {.target = 9}});
    EXPECT_NEAR(choices[0].logprob, std::log(raw[choices[0].token]), 1e-6);
    EXPECT_EQ(choices[1].token, 9);
    EXPECT_NEAR(choices[1].logprob, std::log(raw[9]), 1e-6);
  }
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

TEST(NoiseTest, IsFixedForGood) {
  // A changed value changes what users get for their seeds.
  // These come from the definition in noise.h, computed by a program of its own.
  EXPECT_DOUBLE_EQ(Noise(42, 0, 7).Gumbel(11), -0.2524081585918439);
  EXPECT_DOUBLE_EQ(Noise(~uint64_t{0}, 3, 2047).Gumbel(128255), -0.5223975493640672);
}

}  // namespace
}  // namespace lockstep::worker
