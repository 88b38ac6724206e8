// The search against a sorted vocabulary, for every division of it, ties included.
#include "worker/cutoff_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "worker/collective/thread_group.h"

namespace lockstep::worker {
namespace {

// The cutoff by sorting everything.
Cutoff Reference(const std::vector<float>& logits, const CutoffQuery& query) {
  std::vector<Candidate> sorted;
  for (size_t i = 0; i < logits.size(); ++i) {
    sorted.push_back({logits[i], static_cast<int32_t>(i)});
  }
  std::sort(sorted.begin(), sorted.end(), Precedes);
  double sum = 0;
  for (const Candidate& candidate : sorted) {
    sum += query.weight == CutoffQuery::Weight::kCount
               ? 1
               : std::exp((candidate.logit - double{query.max}) * query.inverse_temperature);
    if (sum >= query.target) return {candidate.logit, candidate.id};
  }
  return {};
}

std::vector<float> RandomLogits(int count, bool coarse) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> logits(count);
  // Coarse ones tie by the hundred, at zeros of both signs too.
  for (float& logit : logits) logit = coarse ? std::round(normal(random)) : normal(random);
  return logits;
}

void ExpectAgreement(const std::vector<float>& logits, std::vector<CutoffQuery> queries) {
  const size_t vocab = logits.size();
  for (CutoffQuery& query : queries) query.max = *std::max_element(logits.begin(), logits.end());
  for (int tp : {1, 2, 4}) {
    std::vector<std::unique_ptr<Collective>> groups;
    if (tp == 1) {
      groups.push_back(MakeSoloCollective());
    } else {
      groups = ConnectInThreads(Transport::kShm, tp, 64);
    }
    InThreads(tp, [&](int rank) {
      const size_t slice = (vocab + tp - 1) / tp;
      const size_t begin = std::min(vocab, rank * slice);
      std::vector<CutoffQuery> mine = queries;
      for (CutoffQuery& query : mine) {
        query.logits = std::span(logits).subspan(begin, std::min(slice, vocab - begin));
      }
      kernels::ThreadPool pool(1);
      auto answers = FindCutoffs(mine, static_cast<int32_t>(begin), *groups[rank], pool);
      ASSERT_TRUE(answers.ok()) << answers.status();
      for (size_t i = 0; i < queries.size(); ++i) {
        const Cutoff expected = Reference(logits, queries[i]);
        const Cutoff& actual = (*answers)[i].cutoff;
        EXPECT_EQ(actual.logit, expected.logit) << "query " << i << ", TP " << tp;
        EXPECT_EQ(actual.last_id, expected.last_id) << "query " << i << ", TP " << tp;
        double mass = 0;
        for (size_t id = 0; id < vocab; ++id) {
          if (!expected.Keeps({logits[id], static_cast<int32_t>(id)})) continue;
          mass += std::exp((logits[id] - double{queries[i].max}) * queries[i].inverse_temperature);
        }
        EXPECT_NEAR((*answers)[i].mass, mass, mass * 1e-12);
      }
    });
  }
}

TEST(CutoffSearchTest, CountsAgreeWithSorting) {
  for (bool coarse : {false, true}) {
    std::vector<CutoffQuery> queries;
    for (double target : {1.0, 2.0, 10.0, 777.0, 4999.0, 5000.0}) {
      queries.push_back({.weight = CutoffQuery::Weight::kCount, .target = target});
    }
    ExpectAgreement(RandomLogits(5000, coarse), queries);
  }
}

TEST(CutoffSearchTest, MassesAgreeWithSorting) {
  for (bool coarse : {false, true}) {
    const std::vector<float> logits = RandomLogits(5000, coarse);
    const double max = *std::max_element(logits.begin(), logits.end());
    std::vector<CutoffQuery> queries;
    for (double temperature : {0.3, 1.0, 7.0}) {
      double total = 0;
      for (float logit : logits) total += std::exp((logit - max) / temperature);
      // Fractions at which no prefix ends to within a rounding.
      for (double fraction : {1e-9, 0.1234, 0.5678, 0.95432, 0.99987}) {
        queries.push_back({.inverse_temperature = 1 / temperature, .target = fraction * total});
      }
    }
    ExpectAgreement(logits, queries);
  }
}

TEST(CutoffSearchTest, AnUnreachableTargetKeepsAll) {
  ExpectAgreement(RandomLogits(300, false),
                  {{.weight = CutoffQuery::Weight::kCount, .target = 301}, {.target = 1e9}});
}

}  // namespace
}  // namespace lockstep::worker
