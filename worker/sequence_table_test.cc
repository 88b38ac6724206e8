// What a batch may and may not do to the table.
#include "worker/sequence_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "worker/testing/batches.h"

namespace lockstep::worker {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint64_t kEpoch = 9;

SequenceLimits Limits() {
  return {.epoch = kEpoch,
          .kv_blocks = 8,
          .max_batch_tokens = 32,
          .max_sequences = 2,
          .context_tokens = 64,
          .vocab_size = 100};
}

v1::StepBatch FirstBatch(BatchComposer& composer) {
  composer.New(BatchComposer::Greedy(1, 20));
  v1::SequenceChunk& chunk = composer.Chunk(1, {5, 6, 7}, false);
  chunk.set_next_token_id(8);
  return composer.Take();
}

TEST(SequenceTableTest, LaysOutRowsPositionsAndBlocks) {
  SequenceTable table(Limits());
  BatchComposer composer(kEpoch);
  ASSERT_TRUE(table.Apply(FirstBatch(composer)).ok());
  composer.New(BatchComposer::Greedy(2, 4));
  composer.Chunk(1, std::vector<int32_t>(17, 9), true);
  composer.Chunk(2, {1, 2, 3, 4}, true);
  auto step = table.Apply(composer.Take());
  ASSERT_TRUE(step.ok()) << step.status();
  EXPECT_EQ(step->rows(), 21);
  EXPECT_EQ(step->positions[0], 3);
  EXPECT_EQ(step->positions[16], 19);
  EXPECT_EQ(step->positions[17], 0);
  ASSERT_EQ(step->sequences.size(), 2u);
  EXPECT_THAT(step->sequences[0].block_table, ElementsAre(0, 1));
  EXPECT_EQ(step->sequences[1].first_row, 17);
  ASSERT_EQ(step->samples.size(), 2u);
  EXPECT_EQ(step->samples[0].row, 16);
  EXPECT_EQ(step->samples[0].position, 20);
}

TEST(SequenceTableTest, ScoresEveryPromptTokenButTheFirstOnce) {
  SequenceTable table(Limits());
  BatchComposer composer(kEpoch);
  composer.New(BatchComposer::Greedy(1, 5));
  composer.Chunk(1, {10, 11}, false).set_next_token_id(12);
  auto first = table.Apply(composer.Take());
  ASSERT_TRUE(first.ok());
  // Re-prefilled beyond the prompt: positions 5 and 6 are output and not scored.
  composer.Chunk(1, {12, 13, 14, 15, 16}, true);
  auto second = table.Apply(composer.Take());
  ASSERT_TRUE(second.ok());
  auto targets = [](const Step& step) {
    std::vector<int32_t> ids;
    for (const auto& score : step.scores) ids.push_back(score.target);
    return ids;
  };
  EXPECT_THAT(targets(*first), ElementsAre(11, 12));
  EXPECT_EQ(first->score_ranges[0].first_position, 1);
  EXPECT_THAT(targets(*second), ElementsAre(13, 14));
  EXPECT_EQ(second->score_ranges[0].first_position, 3);
}

TEST(SequenceTableTest, TheTokenSampledLastNamesItsStep) {
  SequenceTable table(Limits());
  BatchComposer composer(kEpoch);
  composer.New(BatchComposer::Greedy(1, 2));
  composer.Chunk(1, {10, 11}, true);
  ASSERT_TRUE(table.Apply(composer.Take()).ok());
  ASSERT_TRUE(table.Apply(composer.Take()).ok());
  composer.Decode(1);
  auto step = table.Apply(composer.Take());
  ASSERT_TRUE(step.ok());
  ASSERT_EQ(step->pending.size(), 1u);
  EXPECT_EQ(step->pending[0].sampled_step, 1u);
  EXPECT_EQ(step->samples[0].position, 3);
}

TEST(SequenceTableTest, FreedBlocksAndIdsMakeRoom) {
  SequenceTable table(Limits());
  BatchComposer composer(kEpoch);
  ASSERT_TRUE(table.Apply(FirstBatch(composer)).ok());
  v1::StepBatch batch;
  batch.set_epoch(kEpoch);
  batch.set_step_id(2);
  batch.add_freed_sequence_ids(1);
  *batch.add_new_sequences() = BatchComposer::Greedy(2, 1);
  v1::SequenceChunk& chunk = *batch.add_chunks();
  chunk.set_sequence_id(2);
  chunk.add_token_ids(1);
  chunk.add_new_block_ids(0);
  EXPECT_TRUE(table.Apply(batch).ok());
  EXPECT_EQ(table.Find(1), nullptr);
  EXPECT_NE(table.Find(2), nullptr);
}

TEST(SequenceTableTest, EqualBatchesGiveEqualDigestsAndOthersDoNot) {
  SequenceTable a(Limits());
  SequenceTable b(Limits());
  SequenceTable c(Limits());
  BatchComposer composer(kEpoch);
  v1::StepBatch batch = FirstBatch(composer);
  ASSERT_TRUE(a.Apply(batch).ok() && b.Apply(batch).ok());
  EXPECT_EQ(a.Digest(), b.Digest());
  batch.mutable_chunks(0)->set_new_block_ids(0, 3);
  ASSERT_TRUE(c.Apply(batch).ok());
  EXPECT_NE(a.Digest(), c.Digest());
}

// A sequence of 17 computed tokens: block 0 is full, block 1 is not.
v1::StepBatch SeventeenTokens(BatchComposer& composer) {
  composer.New(BatchComposer::Greedy(1, 17));
  composer.Chunk(1, std::vector<int32_t>(17, 5), false);
  return composer.Take();
}

v1::NewSequence Sharing(uint64_t id, int prompt_tokens, const std::vector<int32_t>& blocks) {
  v1::NewSequence sequence = BatchComposer::Greedy(id, prompt_tokens);
  sequence.mutable_shared_block_ids()->Add(blocks.begin(), blocks.end());
  return sequence;
}

TEST(SequenceTableTest, SequencesShareFullBlocksAndGoOnBehindThem) {
  SequenceTable table(Limits());
  BatchComposer composer(kEpoch);
  ASSERT_TRUE(table.Apply(SeventeenTokens(composer)).ok());
  composer.New(Sharing(2, 18, {0}));
  composer.Chunk(2, {7, 8}, true);
  auto step = table.Apply(composer.Take());
  ASSERT_TRUE(step.ok()) << step.status();
  EXPECT_THAT(step->positions, ElementsAre(16, 17));
  EXPECT_THAT(step->sequences[0].block_table, ElementsAre(0, 2));
  EXPECT_EQ(step->sequences[0].first_position, 16);
}

TEST(SequenceTableTest, ASharedBlockStaysHeldUntilTheLastSequenceGoes) {
  SequenceTable table(Limits());
  BatchComposer composer(kEpoch);
  ASSERT_TRUE(table.Apply(SeventeenTokens(composer)).ok());
  composer.New(Sharing(2, 18, {0}));
  ASSERT_TRUE(table.Apply(composer.Take()).ok());
  composer.Free(1);
  composer.New(Sharing(3, 18, {0}));
  ASSERT_TRUE(table.Apply(composer.Take()).ok());
  composer.Free(2);
  composer.Chunk(3, {7, 8}, true);
  v1::StepBatch taken = composer.Take();
  taken.mutable_chunks(0)->set_new_block_ids(0, 0);
  auto step = table.Apply(taken);
  EXPECT_THAT(std::string(step.status().message()), HasSubstr("block 0 is held already"));
}

TEST(SequenceTableTest, AFullBlockMayBeSharedWhileNobodyHoldsItUntilItIsWrittenAnew) {
  SequenceTable table(Limits());
  BatchComposer composer(kEpoch);
  ASSERT_TRUE(table.Apply(SeventeenTokens(composer)).ok());
  composer.Free(1);
  ASSERT_TRUE(table.Apply(composer.Take()).ok());
  composer.New(Sharing(2, 18, {0}));
  ASSERT_TRUE(table.Apply(composer.Take()).ok());
  composer.Free(2);
  composer.New(BatchComposer::Greedy(3, 4));
  v1::SequenceChunk& chunk = composer.Chunk(3, {1, 2, 3, 4}, true);
  chunk.set_new_block_ids(0, 0);
  ASSERT_TRUE(table.Apply(composer.Take()).ok());
  composer.New(Sharing(4, 18, {0}));
  EXPECT_THAT(std::string(table.Apply(composer.Take()).status().message()),
              HasSubstr("shared block 0 is not full"));
}

TEST(SequenceTableTest, AlternativesImplyLogprobs) {
  SequenceTable table(Limits());
  BatchComposer composer(kEpoch);
  v1::NewSequence sequence = BatchComposer::Greedy(1, 3);
  sequence.set_logprobs(false);
  sequence.set_prompt_logprobs(false);
  sequence.set_top_logprobs(3);
  sequence.set_prompt_top_logprobs(4);
  composer.New(sequence);
  composer.Chunk(1, {5, 6, 7}, true);
  auto step = table.Apply(composer.Take());
  ASSERT_TRUE(step.ok()) << step.status();
  EXPECT_TRUE(table.Find(1)->logprobs);
  ASSERT_EQ(step->scores.size(), 2u);
  EXPECT_EQ(step->scores[0].alternatives, 4);
}

v1::NewSequence Penalized(uint64_t id, int prompt_tokens) {
  v1::NewSequence sequence = BatchComposer::Greedy(id, prompt_tokens);
  sequence.mutable_sampling()->set_repetition_penalty(1.5);
  return sequence;
}

// (token, in prompt, times in output), ascending.
std::vector<std::tuple<int32_t, bool, int>> Counted(SequenceTable& table, uint64_t id) {
  std::vector<std::tuple<int32_t, bool, int>> counted;
  for (const auto& [token, use] : *table.Find(id)->counts) {
    counted.emplace_back(token, use.in_prompt, use.in_output);
  }
  std::sort(counted.begin(), counted.end());
  return counted;
}

TEST(SequenceTableTest, CountsPromptAndOutputApartAndSampledTokensOnce) {
  SequenceTable table(Limits());
  BatchComposer composer(kEpoch);
  composer.New(Penalized(1, 3));
  composer.Chunk(1, {5, 6, 5}, true);
  auto step = table.Apply(composer.Take());
  ASSERT_TRUE(step.ok());
  table.CountSampled(*step, {{6}});
  EXPECT_THAT(Counted(table, 1), ElementsAre(std::tuple(5, true, 0), std::tuple(6, true, 1)));
  composer.Decode(1);  // "the token sampled last"
  step = table.Apply(composer.Take());
  ASSERT_TRUE(step.ok());
  table.CountSampled(*step, {{9}});
  composer.Chunk(1, {9}, true);  // the same, by name
  step = table.Apply(composer.Take());
  ASSERT_TRUE(step.ok());
  EXPECT_THAT(Counted(table, 1),
              ElementsAre(std::tuple(5, true, 0), std::tuple(6, true, 1), std::tuple(9, false, 1)));
}

TEST(SequenceTableTest, ARePrefillCountsAsTheFirstTime) {
  SequenceTable table(Limits());
  BatchComposer composer(kEpoch);
  composer.New(Penalized(1, 3));
  composer.Chunk(1, {5, 6, 5, 6, 9}, true);
  ASSERT_TRUE(table.Apply(composer.Take()).ok());
  EXPECT_THAT(Counted(table, 1),
              ElementsAre(std::tuple(5, true, 0), std::tuple(6, true, 1), std::tuple(9, false, 1)));
}

TEST(SequenceTableTest, CountsTheTokensOfSharedBlocks) {
  SequenceTable table(Limits());
  BatchComposer composer(kEpoch);
  ASSERT_TRUE(table.Apply(SeventeenTokens(composer)).ok());
  v1::NewSequence sequence = Penalized(2, 15);
  sequence.add_shared_block_ids(0);
  for (int i = 0; i < 16; ++i) sequence.add_shared_token_ids(5);
  composer.New(sequence);
  ASSERT_TRUE(table.Apply(composer.Take()).ok());
  EXPECT_THAT(Counted(table, 2), ElementsAre(std::tuple(5, true, 1)));
}

TEST(SequenceTableTest, APenaltyNeedsTheTokensOfSharedBlocks) {
  SequenceTable table(Limits());
  BatchComposer composer(kEpoch);
  ASSERT_TRUE(table.Apply(SeventeenTokens(composer)).ok());
  v1::NewSequence sequence = Penalized(2, 18);
  sequence.add_shared_block_ids(0);
  composer.New(sequence);
  EXPECT_THAT(std::string(table.Apply(composer.Take()).status().message()),
              HasSubstr("0 tokens are named of the 16 in its shared blocks"));
}

TEST(SequenceTableTest, WithoutAPenaltyNothingIsCounted) {
  SequenceTable table(Limits());
  BatchComposer composer(kEpoch);
  ASSERT_TRUE(table.Apply(FirstBatch(composer)).ok());
  EXPECT_FALSE(table.Find(1)->counts.has_value());
}

struct Refusal {
  std::string name;
  std::function<void(v1::StepBatch&)> spoil;
  std::string message;
};

class RefusalTest : public testing::TestWithParam<Refusal> {};

// Every case spoils this second batch, which is legal as it is.
v1::StepBatch SecondBatch() {
  BatchComposer composer(kEpoch);
  FirstBatch(composer);
  composer.New(BatchComposer::Greedy(2, 4));
  composer.Chunk(1, {20, 21}, true);
  composer.Chunk(2, {30, 31, 32, 33}, true);
  return composer.Take();
}

TEST_P(RefusalTest, SaysWhatMakesNoSense) {
  SequenceTable table(Limits());
  BatchComposer composer(kEpoch);
  ASSERT_TRUE(table.Apply(FirstBatch(composer)).ok());
  v1::StepBatch batch = SecondBatch();
  GetParam().spoil(batch);
  absl::Status status = table.Apply(batch).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().message));
}

TEST(SequenceTableTest, TheBatchThatTheRefusalsSpoilIsLegal) {
  SequenceTable table(Limits());
  BatchComposer composer(kEpoch);
  ASSERT_TRUE(table.Apply(FirstBatch(composer)).ok());
  EXPECT_TRUE(table.Apply(SecondBatch()).ok());
}

INSTANTIATE_TEST_SUITE_P(
    Refusals, RefusalTest,
    testing::Values(
        Refusal{"StaleEpoch", [](auto& b) { b.set_epoch(8); }, "epoch 8"},
        Refusal{"StepGap", [](auto& b) { b.set_step_id(3); }, "came after step 1"},
        Refusal{"FreedUnknown", [](auto& b) { b.add_freed_sequence_ids(7); }, "7 is not alive"},
        Refusal{"NewTwice", [](auto& b) { b.mutable_new_sequences(0)->set_sequence_id(1); },
                "alive already"},
        Refusal{"TooManySequences",
                [](auto& b) { *b.add_new_sequences() = BatchComposer::Greedy(3, 1); },
                "exceeds the 2"},
        Refusal{"PromptTooLong", [](auto& b) { b.mutable_new_sequences(0)->set_prompt_tokens(65); },
                "context of 64"},
        Refusal{"MissingSeed",
                [](auto& b) { b.mutable_new_sequences(0)->mutable_sampling()->clear_seed(); },
                "sampling parameter is lacking"},
        Refusal{
            "NegativeTemperature",
            [](auto& b) { b.mutable_new_sequences(0)->mutable_sampling()->set_temperature(-1); },
            "temperature -1"},
        Refusal{"NanTopP",
                [](auto& b) {
                  b.mutable_new_sequences(0)->mutable_sampling()->set_top_p(
                      std::numeric_limits<double>::quiet_NaN());
                },
                "top_p"},
        Refusal{"TopKBeyondVocabulary",
                [](auto& b) { b.mutable_new_sequences(0)->mutable_sampling()->set_top_k(101); },
                "top_k 101"},
        Refusal{"NanMinP",
                [](auto& b) {
                  b.mutable_new_sequences(0)->mutable_sampling()->set_min_p(
                      std::numeric_limits<double>::quiet_NaN());
                },
                "sequence 2: min_p nan is not in [0, 1]"},
        Refusal{"ZeroRepetitionPenalty",
                [](auto& b) {
                  b.mutable_new_sequences(0)->mutable_sampling()->set_repetition_penalty(0);
                },
                "repetition_penalty 0 is not in (0, 100]"},
        Refusal{"LargePresencePenalty",
                [](auto& b) {
                  b.mutable_new_sequences(0)->mutable_sampling()->set_presence_penalty(2.5);
                },
                "presence_penalty 2.5"},
        Refusal{"LargeFrequencyPenalty",
                [](auto& b) {
                  b.mutable_new_sequences(0)->mutable_sampling()->set_frequency_penalty(-3);
                },
                "frequency_penalty -3"},
        Refusal{"NegativeMinTokens",
                [](auto& b) { b.mutable_new_sequences(0)->mutable_sampling()->set_min_tokens(-1); },
                "min_tokens -1"},
        Refusal{"BiasOfUnknownToken",
                [](auto& b) {
                  (*b.mutable_new_sequences(0)->mutable_sampling()->mutable_logit_bias())[100] = 1;
                },
                "logit_bias of token 100"},
        Refusal{"InfiniteBias",
                [](auto& b) {
                  (*b.mutable_new_sequences(0)->mutable_sampling()->mutable_logit_bias())[1] =
                      std::numeric_limits<float>::infinity();
                },
                "logit_bias inf"},
        Refusal{"UnknownEndToken",
                [](auto& b) { b.mutable_new_sequences(0)->add_end_token_ids(100); },
                "end token 100"},
        Refusal{"TooManyAlternatives",
                [](auto& b) { b.mutable_new_sequences(0)->set_top_logprobs(21); },
                "more than 20 alternatives"},
        Refusal{"SharedBlockOutOfRange",
                [](auto& b) { b.mutable_new_sequences(0)->add_shared_block_ids(8); },
                "block 8 is not in"},
        Refusal{"SharedBlockThatIsNotFull",
                [](auto& b) { b.mutable_new_sequences(0)->add_shared_block_ids(0); },
                "shared block 0 is not full"},
        Refusal{"SharedTokensWithoutBlocks",
                [](auto& b) { b.mutable_new_sequences(0)->add_shared_token_ids(1); },
                "1 tokens are named of the 0"},
        Refusal{"SharedBlocksBeyondTheContext",
                [](auto& b) {
                  for (int i = 0; i < 5; ++i) b.mutable_new_sequences(0)->add_shared_block_ids(0);
                },
                "shares 80 tokens, beyond the context of 64"},
        Refusal{"UnknownChunk", [](auto& b) { b.mutable_chunks(0)->set_sequence_id(55); },
                "55, which is not alive"},
        Refusal{"PositionGap", [](auto& b) { b.mutable_chunks(0)->set_first_position(4); },
                "came after 3 tokens"},
        Refusal{"TwoChunks",
                [](auto& b) {
                  v1::SequenceChunk again = b.chunks(0);
                  again.set_first_position(5);
                  *b.add_chunks() = again;
                },
                "two chunks"},
        Refusal{"NothingSampled", [](auto& b) { b.mutable_chunks(0)->clear_token_ids(); },
                "sampled none"},
        Refusal{"TokenOutOfRange", [](auto& b) { b.mutable_chunks(0)->set_token_ids(0, 100); },
                "token 100"},
        Refusal{"NegativeToken", [](auto& b) { b.mutable_chunks(0)->set_token_ids(0, -1); },
                "token -1"},
        Refusal{"NextTokenOutOfRange", [](auto& b) { b.mutable_chunks(0)->set_next_token_id(100); },
                "token 100"},
        Refusal{"BlockOutOfRange", [](auto& b) { b.mutable_chunks(1)->set_new_block_ids(0, 8); },
                "block 8 is not in"},
        Refusal{"BlockHeldAlready", [](auto& b) { b.mutable_chunks(1)->set_new_block_ids(0, 0); },
                "block 0 is held"},
        Refusal{"NoRoomInBlocks", [](auto& b) { b.mutable_chunks(1)->clear_new_block_ids(); },
                "0 blocks hold 0 tokens, 4 are needed"},
        Refusal{"TooManyRows",
                [](auto& b) {
                  for (int i = 0; i < 40; ++i) b.mutable_chunks(0)->add_token_ids(1);
                },
                "more than 32 rows"}),
    [](const testing::TestParamInfo<Refusal>& info) { return info.param.name; });

}  // namespace
}  // namespace lockstep::worker
