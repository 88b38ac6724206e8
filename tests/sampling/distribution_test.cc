// What shard processes sample against the double-precision distribution: chi-square over 100,000
// draws for each way of sampling, at TP 1, 2 and 4, and the same draws for the same seeds at each.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/model_examples.h"
#include "tests/sampling/random_model.h"
#include "tests/sampling/shard_processes.h"
#include "worker/sampling.h"
#include "worker/testing/reference_decoder.h"
#include "worker/testing/reference_sampler.h"

namespace lockstep::tests {
namespace {

constexpr uint64_t kWeights = 23;
constexpr int kDraws = 100'000;
constexpr int kRows = 1000;  // draws of a step
constexpr double kLeastPValue = 1e-4;

// One block that all draws share, and the token after it that each computes for itself. Ten tokens
// are prompt, the others count as output.
constexpr int kPromptTokens = 10;
const std::vector<int32_t> kBlock = {3, 14, 15, 92, 65, 35, 89, 79, 32, 38, 46, 26, 46, 46, 3, 38};
constexpr int32_t kLastToken = 92;

struct Case {
  std::string name;
  worker::Sampling sampling;
};

std::vector<Case> Cases() {
  return {
      {"Temperature", {.temperature = 1.7}},
      {"TopK", {.temperature = 1.5, .top_k = 12}},
      {"TopP", {.temperature = 1.5, .top_p = 0.8}},
      {"MinP", {.temperature = 1.5, .min_p = 0.08}},
      {"Penalties",
       {.temperature = 2,
        .repetition_penalty = 1.4,
        .presence_penalty = 0.8,
        .frequency_penalty = 0.6}},
      {"Everything",
       {.temperature = 1.8,
        .top_k = 60,
        .top_p = 0.97,
        .min_p = 0.005,
        .repetition_penalty = 0.8,
        .presence_penalty = -0.5,
        .frequency_penalty = 0.9,
        .logit_bias = {{7, 3.0f}, {100, 2.5f}, {1, -4.0f}},
        .min_tokens = 8,
        .end_token_ids = {0, 7, 50}}},
  };
}

v1::NewSequence Sequence(uint64_t id, const worker::Sampling& sampling) {
  v1::NewSequence sequence;
  sequence.set_sequence_id(id);
  sequence.set_prompt_tokens(kPromptTokens);
  sequence.set_choice(id % 3);
  v1::SamplingParams& params = *sequence.mutable_sampling();
  params.set_temperature(sampling.temperature);
  params.set_top_k(sampling.top_k);
  params.set_top_p(sampling.top_p);
  params.set_min_p(sampling.min_p);
  params.set_seed(id);
  params.set_repetition_penalty(sampling.repetition_penalty);
  params.set_presence_penalty(sampling.presence_penalty);
  params.set_frequency_penalty(sampling.frequency_penalty);
  for (auto [token, bias] : sampling.logit_bias) (*params.mutable_logit_bias())[token] = bias;
  params.set_min_tokens(static_cast<int32_t>(sampling.min_tokens));
  for (int32_t token : sampling.end_token_ids) sequence.add_end_token_ids(token);
  return sequence;
}

// Block 0, held by sequence 0 for good.
v1::StepBatch FirstBatch() {
  v1::StepBatch batch;
  *batch.add_new_sequences() = Sequence(0, {});
  v1::SequenceChunk& chunk = *batch.add_chunks();
  chunk.mutable_token_ids()->Add(kBlock.begin(), kBlock.end());
  chunk.add_new_block_ids(0);
  return batch;
}

// Sequences first_id, ..., one draw each; frees the ones before them.
v1::StepBatch DrawBatch(const worker::Sampling& sampling, uint64_t first_id) {
  v1::StepBatch batch;
  for (uint64_t id = first_id; id < first_id + kRows; ++id) {
    if (first_id > kRows) batch.add_freed_sequence_ids(id - kRows);
    v1::NewSequence& sequence = *batch.add_new_sequences();
    sequence = Sequence(id, sampling);
    sequence.add_shared_block_ids(0);
    if (sampling.penalizes()) {
      sequence.mutable_shared_token_ids()->Add(kBlock.begin(), kBlock.end());
    }
    v1::SequenceChunk& chunk = *batch.add_chunks();
    chunk.set_sequence_id(id);
    chunk.set_first_position(kBlock.size());
    chunk.add_token_ids(kLastToken);
    chunk.add_new_block_ids(static_cast<int32_t>(1 + (id - 1) % kRows));
    chunk.set_sample(true);
  }
  return batch;
}

using Draws = std::map<std::string, std::vector<int32_t>>;  // by case

absl::Status Draw(ShardProcesses& processes, uint64_t first_id, const Case& c, Draws& draws) {
  constexpr int kSteps = kDraws / kRows;
  // One batch runs while the next one waits.
  for (int step = 0; step <= kSteps; ++step) {
    if (step < kSteps) processes.Submit(DrawBatch(c.sampling, first_id + step * kRows));
    if (step == 0) continue;
    absl::StatusOr<v1::StepResult> result = processes.Next();
    if (!result.ok()) return result.status();
    for (const v1::SampledToken& token : result->sampled()) {
      draws[c.name].push_back(token.token_id());
    }
  }
  return absl::OkStatus();
}

class DistributionTest : public testing::TestWithParam<Case> {
 protected:
  /// The case's draws at `tp`; those of all cases are made at once.
  static std::vector<int32_t> DrawsOf(const std::string& name, int tp) {
    static auto* const all = new std::map<int, Draws>;
    auto [found, is_new] = all->try_emplace(tp);
    if (is_new) MakeDraws(tp, found->second);
    return found->second[name];
  }

 private:
  static void MakeDraws(int tp, Draws& draws) {
    const std::filesystem::path model = std::filesystem::path(testing::TempDir()) / "random";
    ASSERT_EQ(WriteRandomModel(kWeights, model), absl::OkStatus());
    auto processes = ShardProcesses::Start({.tp = tp,
                                            .config_json = RandomModelConfig(),
                                            .model_directory = model,
                                            .workerd = "worker/workerd",
                                            .max_sequences = kRows + 1,
                                            .max_batch_tokens = kRows});
    ASSERT_TRUE(processes.ok()) << processes.status();
    (*processes)->Submit(FirstBatch());
    ASSERT_TRUE((*processes)->Next().ok());
    uint64_t first_id = 1;
    for (const Case& c : Cases()) {
      ASSERT_EQ(Draw(**processes, first_id, c, draws), absl::OkStatus());
      first_id += kDraws;
    }
  }
};

std::vector<double> Expected(const worker::Sampling& sampling) {
  std::vector<int32_t> tokens = kBlock;
  tokens.push_back(kLastToken);
  const std::vector<double> logits =
      worker::ReferenceLogits(model::SpecOf(RandomModelConfig()), kWeights, tokens).back();
  const std::span<const int32_t> all(tokens);
  return worker::ReferenceProbabilities(
      worker::ReferenceProcessed(logits, sampling, all.first(kPromptTokens),
                                 all.subspan(kPromptTokens)),
      sampling);
}

TEST_P(DistributionTest, IsTheReferencesAtEveryTpWithTheSameDraws) {
  const std::vector<double> expected = Expected(GetParam().sampling);
  const auto possible =
      std::count_if(expected.begin(), expected.end(), [](double p) { return p * kDraws > 10; });
  EXPECT_GT(possible, 5) << "a distribution that tests little";
  std::vector<int32_t> first;
  for (int tp : {1, 2, 4}) {
    const std::vector<int32_t> draws = DrawsOf(GetParam().name, tp);
    if (tp == 1) first = draws;
    ASSERT_EQ(draws.size(), static_cast<size_t>(kDraws));
    const double p_value = worker::ChiSquarePValue(draws, expected);
    RecordProperty("p_value_tp" + std::to_string(tp), std::to_string(p_value));
    EXPECT_GT(p_value, kLeastPValue) << "TP " << tp;
    EXPECT_EQ(draws, first) << "TP " << tp;
  }
}

INSTANTIATE_TEST_SUITE_P(Sampling, DistributionTest, testing::ValuesIn(Cases()),
                         [](const testing::TestParamInfo<Case>& info) { return info.param.name; });

}  // namespace
}  // namespace lockstep::tests
