// The whole forward pass against a double-precision decoder, and the invariances that Lockstep
// promises: plan, chunking and company do not change what a request gets.
#include "worker/step_runner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "model/decoder_spec.h"
#include "worker/local_cluster.h"
#include "worker/testing/batches.h"
#include "worker/testing/random_weights.h"
#include "worker/testing/reference_decoder.h"

namespace lockstep::worker {
namespace {

constexpr uint64_t kSeed = 17;
constexpr uint64_t kEpoch = 3;

model::DecoderSpec TinySpec(bool tied) {
  model::DecoderSpec spec;
  spec.architecture = "LlamaForCausalLM";
  spec.hidden_size = 48;
  spec.num_layers = 4;
  spec.vocab_size = 77;  // not divisible by any TP
  spec.max_position = 256;
  spec.attention = {.num_heads = 8, .kv_heads = 4, .head_dim = 16, .rope = {.theta = 10000.0}};
  spec.mlp = {.intermediate_size = 96};
  spec.tie_embeddings = tied;
  using model::WeightRole;
  spec.weight_names = {
      {WeightRole::kEmbedding, "model.embed_tokens.weight"},
      {WeightRole::kFinalNorm, "model.norm.weight"},
      {WeightRole::kHead, "lm_head.weight"},
      {WeightRole::kInputNorm, "model.layers.{}.input_layernorm.weight"},
      {WeightRole::kQuery, "model.layers.{}.self_attn.q_proj.weight"},
      {WeightRole::kKey, "model.layers.{}.self_attn.k_proj.weight"},
      {WeightRole::kValue, "model.layers.{}.self_attn.v_proj.weight"},
      {WeightRole::kAttentionOutput, "model.layers.{}.self_attn.o_proj.weight"},
      {WeightRole::kPostAttentionNorm, "model.layers.{}.post_attention_layernorm.weight"},
      {WeightRole::kGate, "model.layers.{}.mlp.gate_proj.weight"},
      {WeightRole::kUp, "model.layers.{}.mlp.up_proj.weight"},
      {WeightRole::kDown, "model.layers.{}.mlp.down_proj.weight"},
  };
  return spec;
}

std::vector<int32_t> Prompt(int length, int vocab, int salt) {
  std::vector<int32_t> tokens;
  for (int i = 0; i < length; ++i) tokens.push_back((i * 31 + salt * 7 + i * i) % vocab);
  return tokens;
}

struct Plan {
  int tp;
  int pp;
  v1::Transport transport = v1::TRANSPORT_SHM;
};

std::unique_ptr<LocalCluster> MakeCluster(const model::DecoderSpec& spec, const Plan& plan,
                                          DType dtype = DType::kF32, int threads = 1) {
  LocalClusterOptions options{.spec = spec,
                              .tp_size = plan.tp,
                              .pp_size = plan.pp,
                              .dtype = dtype,
                              .limits = {.epoch = kEpoch,
                                         .kv_blocks = 64,
                                         .max_batch_tokens = 128,
                                         .max_sequences = 8,
                                         .context_tokens = 256},
                              .transport = plan.transport,
                              .threads = threads};
  auto cluster = LocalCluster::Create(options, *MakeRandomWeights(kSeed));
  EXPECT_TRUE(cluster.ok()) << cluster.status();
  return cluster.ok() ? *std::move(cluster) : nullptr;
}

struct Output {
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;  // of prompt and output, without the first token
  bool operator==(const Output&) const = default;
};

void Collect(const v1::StepResult& result, uint64_t id, Output& output) {
  for (const auto& scores : result.prompt_logprobs()) {
    if (scores.sequence_id() != id) continue;
    EXPECT_EQ(scores.first_position(), output.logprobs.size() + 1);
    output.logprobs.insert(output.logprobs.end(), scores.logprobs().begin(),
                           scores.logprobs().end());
  }
  for (const auto& sampled : result.sampled()) {
    if (sampled.sequence_id() != id) continue;
    output.tokens.push_back(sampled.token_id());
    output.logprobs.push_back(sampled.logprob());
  }
}

// Greedy: the prompt in chunks of the given sizes, then `steps` - 1 decodes.
Output Generate(LocalCluster& cluster, BatchComposer& composer, uint64_t id,
                const std::vector<int32_t>& prompt, const std::vector<int>& chunks, int steps) {
  Output output;
  composer.New(BatchComposer::Greedy(id, static_cast<int>(prompt.size())));
  size_t begin = 0;
  for (int size : chunks) {
    size_t end = begin + size;
    bool last = end == prompt.size();
    v1::SequenceChunk& chunk =
        composer.Chunk(id, {prompt.begin() + begin, prompt.begin() + end}, last);
    if (!last) chunk.set_next_token_id(prompt[end]);
    auto result = cluster.Run(composer.Take());
    EXPECT_TRUE(result.ok()) << result.status();
    if (!result.ok()) return output;
    Collect(*result, id, output);
    begin = end;
  }
  for (int step = 1; step < steps; ++step) {
    composer.Decode(id);
    auto result = cluster.Run(composer.Take());
    EXPECT_TRUE(result.ok()) << result.status();
    if (!result.ok()) return output;
    Collect(*result, id, output);
  }
  return output;
}

Output GenerateAlone(const model::DecoderSpec& spec, const Plan& plan, int prompt_length, int steps,
                     DType dtype = DType::kF32) {
  auto cluster = MakeCluster(spec, plan, dtype);
  if (!cluster) return {};
  BatchComposer composer(kEpoch);
  std::vector<int32_t> prompt = Prompt(prompt_length, static_cast<int>(spec.vocab_size), 1);
  return Generate(*cluster, composer, 5, prompt, {prompt_length}, steps);
}

// The greedy continuation and all log-probabilities by the reference.
Output Reference(const model::DecoderSpec& spec, int prompt_length, int steps) {
  std::vector<int32_t> tokens = Prompt(prompt_length, static_cast<int>(spec.vocab_size), 1);
  Output output;
  for (int step = 0; step < steps; ++step) {
    auto logits = ReferenceLogits(spec, kSeed, tokens);
    if (step == 0) {
      for (int i = 1; i < prompt_length; ++i) {
        output.logprobs.push_back(ReferenceLogprob(logits[i - 1], tokens[i]));
      }
    }
    const std::vector<double>& last = logits.back();
    int32_t next = std::max_element(last.begin(), last.end()) - last.begin();
    output.tokens.push_back(next);
    output.logprobs.push_back(ReferenceLogprob(last, next));
    tokens.push_back(next);
  }
  return output;
}

double MaxDifference(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double worst = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    worst = std::max<double>(worst, std::abs(a[i] - b[i]));
  }
  return worst;
}

TEST(StepRunnerTest, AgreesWithTheDoublePrecisionDecoderInFp32) {
  for (bool tied : {false, true}) {
    const model::DecoderSpec spec = TinySpec(tied);
    Output expected = Reference(spec, 19, 6);
    Output actual = GenerateAlone(spec, {1, 1}, 19, 6);
    EXPECT_EQ(actual.tokens, expected.tokens);
    EXPECT_LT(MaxDifference(actual.logprobs, expected.logprobs), 1e-4) << "tied: " << tied;
  }
}

TEST(StepRunnerTest, Bf16StaysNearTheDoublePrecisionDecoder) {
  const model::DecoderSpec spec = TinySpec(false);
  Output expected = Reference(spec, 19, 1);
  Output actual = GenerateAlone(spec, {1, 1}, 19, 1, DType::kBF16);
  EXPECT_LT(MaxDifference(actual.logprobs, expected.logprobs), 0.25);
}

class PlanTest : public testing::TestWithParam<Plan> {};

TEST_P(PlanTest, GivesTheTokensOfOneRank) {
  for (bool tied : {false, true}) {
    const model::DecoderSpec spec = TinySpec(tied);
    Output alone = GenerateAlone(spec, {1, 1}, 35, 20);
    Output split = GenerateAlone(spec, GetParam(), 35, 20);
    EXPECT_EQ(split.tokens, alone.tokens);
    EXPECT_LT(MaxDifference(split.logprobs, alone.logprobs), 1e-4);
  }
}

INSTANTIATE_TEST_SUITE_P(Plans, PlanTest,
                         testing::Values(Plan{2, 1}, Plan{4, 1}, Plan{8, 1}, Plan{1, 2}, Plan{1, 4},
                                         Plan{2, 2}, Plan{2, 2, v1::TRANSPORT_TCP}),
                         [](const testing::TestParamInfo<Plan>& info) {
                           return "Tp" + std::to_string(info.param.tp) + "Pp" +
                                  std::to_string(info.param.pp) +
                                  (info.param.transport == v1::TRANSPORT_TCP ? "OverTcp" : "");
                         });

TEST(StepRunnerTest, ChunkedPrefillGivesTheSameBits) {
  const model::DecoderSpec spec = TinySpec(false);
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    for (Plan plan : {Plan{1, 1}, Plan{2, 2}}) {
      auto cluster = MakeCluster(spec, plan, dtype);
      ASSERT_NE(cluster, nullptr);
      BatchComposer composer(kEpoch);
      std::vector<int32_t> prompt = Prompt(50, 77, 2);
      Output whole = Generate(*cluster, composer, 1, prompt, {50}, 8);
      Output chunked = Generate(*cluster, composer, 2, prompt, {1, 16, 7, 20, 6}, 8);
      EXPECT_EQ(whole, chunked);
      EXPECT_EQ(whole.logprobs.size(), 49 + 8u);
    }
  }
}

TEST(StepRunnerTest, BatchMatesAndThreadsDoNotChangeABit) {
  const model::DecoderSpec spec = TinySpec(false);
  std::vector<int32_t> prompt = Prompt(21, 77, 3);
  auto cluster = MakeCluster(spec, {2, 1}, DType::kF32, /*threads=*/3);
  ASSERT_NE(cluster, nullptr);
  BatchComposer composer(kEpoch);
  Output alone = Generate(*cluster, composer, 1, prompt, {21}, 3);

  Output together;
  std::vector<int32_t> other = Prompt(40, 77, 4);
  composer.New(BatchComposer::Greedy(2, 40));
  composer.Chunk(2, other, true);
  ASSERT_TRUE(cluster->Run(composer.Take()).ok());
  composer.New(BatchComposer::Greedy(3, 21));
  composer.New(BatchComposer::Greedy(4, 33));
  composer.Decode(2);
  composer.Chunk(4, Prompt(33, 77, 5), true);
  composer.Chunk(3, prompt, true);
  for (int step = 0; step < 3; ++step) {
    auto result = cluster->Run(composer.Take());
    ASSERT_TRUE(result.ok()) << result.status();
    Collect(*result, 3, together);
    composer.Decode(3);
    composer.Decode(2);
  }
  EXPECT_EQ(alone, together);
}

TEST(StepRunnerTest, BatchesMayBeOutstandingInAPipeline) {
  const model::DecoderSpec spec = TinySpec(false);
  const std::vector<int32_t> prompt = Prompt(30, 77, 1);
  Output one_by_one = GenerateAlone(spec, {1, 1}, 30, 12);
  for (Plan plan : {Plan{1, 1}, Plan{1, 2}, Plan{1, 4}, Plan{2, 2, v1::TRANSPORT_TCP}}) {
    auto cluster = MakeCluster(spec, plan);
    ASSERT_NE(cluster, nullptr);
    BatchComposer composer(kEpoch);
    composer.New(BatchComposer::Greedy(5, 30));
    composer.Chunk(5, prompt, true);
    Output output;
    int submitted = 0;
    int answered = 0;
    while (answered < 12) {
      while (submitted < 12 && submitted - answered < plan.pp + 1) {
        cluster->Submit(composer.Take());
        composer.Decode(5);
        ++submitted;
      }
      auto result = cluster->Next();
      ASSERT_TRUE(result.ok()) << result.status();
      Collect(*result, 5, output);
      ++answered;
    }
    EXPECT_EQ(output.tokens, one_by_one.tokens) << plan.tp << " x " << plan.pp;
  }
}

// Every parameter at once, so that each step depends on the tokens before it.
v1::NewSequence Choosy(uint64_t id, int prompt_tokens) {
  v1::NewSequence sequence = BatchComposer::Greedy(id, prompt_tokens);
  v1::SamplingParams& sampling = *sequence.mutable_sampling();
  sampling.set_temperature(1.5);
  sampling.set_top_k(40);
  sampling.set_top_p(0.98);
  sampling.set_min_p(0.001);
  sampling.set_seed(99);
  sampling.set_repetition_penalty(1.3);
  sampling.set_presence_penalty(0.7);
  sampling.set_frequency_penalty(0.4);
  sampling.set_min_tokens(10);
  (*sampling.mutable_logit_bias())[12] = 1.5f;
  sequence.add_end_token_ids(3);
  sequence.set_top_logprobs(5);
  sequence.set_prompt_top_logprobs(2);
  return sequence;
}

// The tokens of `count` queued decode steps after `prompt`, as many outstanding as the plan allows.
std::vector<int32_t> ChoosyTokens(const Plan& plan, const std::vector<int32_t>& prompt,
                                  int prompt_tokens, int count) {
  auto cluster = MakeCluster(TinySpec(false), plan);
  if (!cluster) return {};
  BatchComposer composer(kEpoch);
  composer.New(Choosy(1, prompt_tokens));
  composer.Chunk(1, prompt, true);
  for (int i = 0; i < count; ++i) {
    cluster->Submit(composer.Take());
    composer.Decode(1);
  }
  Output output;
  for (int i = 0; i < count; ++i) {
    auto result = cluster->Next();
    EXPECT_TRUE(result.ok()) << result.status();
    if (!result.ok()) return {};
    for (const auto& sampled : result->sampled()) output.tokens.push_back(sampled.token_id());
  }
  return output.tokens;
}

TEST(StepRunnerTest, PenaltiesSeeTheQueuedTokensUnderEveryPlanAndAfterARePrefill) {
  const std::vector<int32_t> prompt = Prompt(20, 77, 1);
  const std::vector<int32_t> alone = ChoosyTokens({1, 1}, prompt, 20, 24);
  ASSERT_EQ(alone.size(), 24u);
  for (Plan plan : {Plan{2, 1}, Plan{4, 1}, Plan{1, 2}, Plan{2, 2}}) {
    EXPECT_EQ(ChoosyTokens(plan, prompt, 20, 24), alone) << plan.tp << " x " << plan.pp;
  }
  std::vector<int32_t> so_far = prompt;
  so_far.insert(so_far.end(), alone.begin(), alone.begin() + 9);
  EXPECT_EQ(ChoosyTokens({1, 2}, so_far, 20, 15),
            std::vector<int32_t>(alone.begin() + 9, alone.end()));
}

TEST(StepRunnerTest, ReportsAlternativesOfSampledAndPromptTokens) {
  auto cluster = MakeCluster(TinySpec(false), {2, 2});
  ASSERT_NE(cluster, nullptr);
  BatchComposer composer(kEpoch);
  const std::vector<int32_t> prompt = Prompt(7, 77, 1);
  composer.New(Choosy(1, 7));
  composer.Chunk(1, prompt, true);
  auto result = cluster->Run(composer.Take());
  ASSERT_TRUE(result.ok()) << result.status();
  const auto logits = ReferenceLogits(TinySpec(false), kSeed, prompt);
  const auto expect_best = [&](const v1::TokenAlternatives& actual, int row, int count) {
    ASSERT_EQ(actual.token_ids_size(), count);
    ASSERT_EQ(actual.logprobs_size(), count);
    std::vector<double> sorted = logits[row];
    std::sort(sorted.rbegin(), sorted.rend());
    for (int i = 0; i < count; ++i) {
      EXPECT_NEAR(logits[row][actual.token_ids(i)], sorted[i], 1e-4);
      EXPECT_NEAR(actual.logprobs(i), ReferenceLogprob(logits[row], actual.token_ids(i)), 1e-4);
    }
  };
  ASSERT_EQ(result->sampled_size(), 1);
  expect_best(result->sampled(0).top_logprobs(), 6, 5);
  ASSERT_EQ(result->prompt_logprobs_size(), 1);
  ASSERT_EQ(result->prompt_logprobs(0).top_logprobs_size(), 6);
  for (int i = 0; i < 6; ++i) expect_best(result->prompt_logprobs(0).top_logprobs(i), i, 2);
}

TEST(StepRunnerTest, ASharedPrefixGivesTheBitsOfAComputedOne) {
  const model::DecoderSpec spec = TinySpec(false);
  const std::vector<int32_t> prompt = Prompt(50, 77, 6);
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    for (Plan plan : {Plan{1, 1}, Plan{2, 2}}) {
      auto cluster = MakeCluster(spec, plan, dtype);
      ASSERT_NE(cluster, nullptr);
      BatchComposer composer(kEpoch);
      Output computed = Generate(*cluster, composer, 1, prompt, {50}, 8);
      v1::NewSequence sharing = BatchComposer::Greedy(2, 50);
      for (int block : {0, 1, 2}) sharing.add_shared_block_ids(block);
      composer.New(sharing);
      composer.Chunk(2, {prompt.begin() + 48, prompt.end()}, true);
      std::vector<int32_t> tokens;
      std::vector<float> logprobs;
      for (int step = 0; step < 8; ++step) {
        auto result = cluster->Run(composer.Take());
        ASSERT_TRUE(result.ok()) << result.status();
        tokens.push_back(result->sampled(0).token_id());
        logprobs.push_back(result->sampled(0).logprob());
        composer.Decode(2);
      }
      EXPECT_EQ(tokens, computed.tokens);
      EXPECT_EQ(logprobs, std::vector<float>(computed.logprobs.end() - 8, computed.logprobs.end()));
    }
  }
}

TEST(StepRunnerTest, AFreedSequenceMayLeaveItsLastTokenUnread) {
  const model::DecoderSpec spec = TinySpec(false);
  auto cluster = MakeCluster(spec, {1, 2});
  ASSERT_NE(cluster, nullptr);
  BatchComposer composer(kEpoch);
  // More steps than may be outstanding, so that unread tokens must be taken in.
  for (uint64_t id = 1; id <= 8; ++id) {
    composer.New(BatchComposer::Greedy(id, 4));
    composer.Chunk(id, Prompt(4, 77, static_cast<int>(id)), true);
    ASSERT_TRUE(cluster->Run(composer.Take()).ok());
    composer.Free(id);
  }
  Output output = Generate(*cluster, composer, 100, Prompt(9, 77, 9), {9}, 5);
  EXPECT_EQ(output.tokens.size(), 5u);
}

TEST(StepRunnerTest, ABatchWithoutRowsIsAnswered) {
  auto cluster = MakeCluster(TinySpec(false), {2, 2});
  ASSERT_NE(cluster, nullptr);
  BatchComposer composer(kEpoch);
  auto result = cluster->Run(composer.Take());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->step_id(), 1u);
}

TEST(StepRunnerTest, ARefusedBatchEndsTheStepOnAllRanksWithItsReason) {
  auto cluster = MakeCluster(TinySpec(false), {2, 2});
  ASSERT_NE(cluster, nullptr);
  v1::StepBatch batch;
  batch.set_epoch(kEpoch);
  batch.set_step_id(7);
  auto result = cluster->Run(batch);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument) << result.status();
}

}  // namespace
}  // namespace lockstep::worker
