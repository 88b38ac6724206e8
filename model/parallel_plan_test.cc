// The rules of a division with the numbers of real models, and the words of each refusal.
#include "model/parallel_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/model_examples.h"

namespace lockstep::model {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr int64_t kGiB = int64_t{1} << 30;

class ParallelPlanTest : public testing::Test {
 protected:
  ParallelPlanTest() { request_.context_tokens = 8192; }

  void ExpectRefused(const testing::Matcher<std::string>& message) const {
    absl::Status status = MakeParallelPlan(spec_, request_).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()), message);
  }

  DecoderSpec spec_ = SpecOf(Llama70bConfig());
  PlanRequest request_;
};

TEST_F(ParallelPlanTest, LegalTpSizesOfA70bLlamaArePowersOfTwoUpTo64) {
  EXPECT_THAT(LegalTpSizes(spec_), ElementsAre(1, 2, 4, 8, 16, 32, 64));
  for (int tp_size : {1, 2, 4, 8, 16, 32, 64}) {
    request_.tp_size = tp_size;
    EXPECT_TRUE(MakeParallelPlan(spec_, request_).ok()) << tp_size;
  }
  for (int tp_size : {3, 5, 6, 7, 12, 48, 65, 128}) {
    request_.tp_size = tp_size;
    ExpectRefused(HasSubstr("legal TP sizes: 1, 2, 4, 8, 16, 32, 64"));
  }
}

TEST_F(ParallelPlanTest, FourStagesOfEightHoldTwentyLayersEach) {
  request_.tp_size = 8;
  request_.pp_size = 4;
  ParallelPlan plan = MakeParallelPlan(spec_, request_).value();
  ASSERT_EQ(plan.ranks.size(), 32u);
  for (const RankPlan& rank : plan.ranks) {
    int stage = rank.rank / 8;
    EXPECT_EQ(rank.shard.pp_stage, stage);
    EXPECT_EQ(rank.shard.layers, (Range{20 * stage, 20 * stage + 20}));
    EXPECT_EQ(rank.shard.heads.size(), 8);
    EXPECT_EQ(rank.shard.kv_heads.size(), 1);
    EXPECT_EQ(rank.shard.ffn.size(), 3584);
    EXPECT_EQ(rank.shard.has_embedding, stage == 0);
    EXPECT_EQ(rank.shard.has_head, stage == 3);
  }
}

TEST_F(ParallelPlanTest, LayersThatPpDoesNotDivideAreBalanced) {
  request_.pp_size = 3;
  ParallelPlan plan = MakeParallelPlan(spec_, request_).value();
  EXPECT_EQ(plan.ranks[0].shard.layers, (Range{0, 26}));
  EXPECT_EQ(plan.ranks[1].shard.layers, (Range{26, 53}));
  EXPECT_EQ(plan.ranks[2].shard.layers, (Range{53, 80}));
}

TEST_F(ParallelPlanTest, BytesOfA70bLlamaAreThoseOfItsParameters) {
  ParallelPlan plan = MakeParallelPlan(spec_, request_).value();
  // 70,553,706,496 parameters, of which 161 norms of 8192 are kept in four bytes instead of two.
  EXPECT_EQ(plan.ranks[0].weight_bytes, 2 * 70553706496 + 2 * 161 * 8192);
  EXPECT_EQ(plan.ranks[0].kv_bytes_per_token, 2 * 80 * 8 * 128 * 2);
  EXPECT_EQ(plan.ranks[0].kv_blocks, 512);
  EXPECT_EQ(plan.ranks[0].kv_bytes, 8192 * plan.ranks[0].kv_bytes_per_token);
}

TEST_F(ParallelPlanTest, TpMustDivideTheHeads) {
  request_.tp_size = 3;
  ExpectRefused(HasSubstr("TP 3 does not divide the 64 attention heads; legal TP sizes: 1, 2"));
}

TEST_F(ParallelPlanTest, TpMustNotExceedTheHeads) {
  spec_ = SpecOf(SmallLlamaConfig());
  request_.context_tokens = 0;
  request_.tp_size = 16;
  ExpectRefused(HasSubstr("TP 16 exceeds the 8 attention heads; legal TP sizes: 1, 2, 4, 8"));
}

TEST_F(ParallelPlanTest, KvHeadsMustDivideOrBeReplicatedEvenly) {
  spec_.attention.num_heads = 24;
  spec_.attention.kv_heads = 6;
  spec_.mlp.intermediate_size = 24576;
  request_.tp_size = 4;
  ExpectRefused(HasSubstr("TP 4 neither divides the 6 KV heads nor is a multiple of them"));
  EXPECT_THAT(LegalTpSizes(spec_), ElementsAre(1, 2, 3, 6, 12, 24));
}

TEST_F(ParallelPlanTest, TpMustDivideTheFfn) {
  spec_.mlp.intermediate_size = 28670;
  request_.tp_size = 4;
  ExpectRefused(HasSubstr("TP 4 does not divide the FFN size 28670; legal TP sizes: 1, 2"));
}

TEST_F(ParallelPlanTest, EveryRankNeedsARowOfTheVocabulary) {
  spec_.vocab_size = 5;
  request_.tp_size = 4;
  ExpectRefused(HasSubstr("without a row of the vocabulary of 5"));
}

TEST_F(ParallelPlanTest, PpMustNotExceedTheLayers) {
  request_.pp_size = 81;
  ExpectRefused(HasSubstr("PP 81 exceeds the 80 layers; legal PP sizes: 1 to 80"));
}

TEST_F(ParallelPlanTest, TpStaysInsideANodeUnlessTheUserInsists) {
  request_.devices_per_node = 8;
  request_.tp_size = 16;
  ExpectRefused(AllOf(HasSubstr("node of 8 devices"), HasSubstr("--allow-cross-node-tp"),
                      HasSubstr("legal TP sizes: 1, 2, 4, 8")));
  request_.allow_cross_node_tp = true;
  ParallelPlan plan = MakeParallelPlan(spec_, request_).value();
  EXPECT_EQ(plan.ranks[7].node, 0);
  EXPECT_EQ(plan.ranks[8].node, 1);
  EXPECT_EQ(plan.num_nodes, 2);
}

TEST_F(ParallelPlanTest, ACrossingGroupTakesWholeNodes) {
  request_.devices_per_node = 6;
  request_.allow_cross_node_tp = true;
  request_.tp_size = 8;
  ExpectRefused(
      AllOf(HasSubstr("not a multiple of their 6 devices"), HasSubstr("legal TP sizes: 1, 2, 4")));
}

TEST_F(ParallelPlanTest, NoGroupStraddlesANodeThatItFitsInto) {
  request_.devices_per_node = 6;
  request_.tp_size = 4;
  request_.pp_size = 3;
  ParallelPlan plan = MakeParallelPlan(spec_, request_).value();
  for (const RankPlan& rank : plan.ranks) {
    EXPECT_EQ(rank.node, rank.shard.pp_stage);
  }
}

TEST_F(ParallelPlanTest, TooLittleMemoryIsRefusedWithBytesAndWaysOut) {
  request_.tp_size = 2;
  request_.concurrency = 32;
  request_.device_memory_bytes = 80 * kGiB;
  ExpectRefused(AllOf(HasSubstr("TP 2 x PP 1 needs"), HasSubstr("weights 65.7"),
                      HasSubstr("KV cache 40.00 GiB (32 x 8192 tokens)"),
                      HasSubstr("0.9 of the device's 80.00 GiB is 72.00 GiB"),
                      HasSubstr("--context up to "), HasSubstr("--concurrency up to "),
                      HasSubstr("--tp 4 --pp 1")));
}

TEST_F(ParallelPlanTest, TheSuggestedContextAndConcurrencyAreTheLargestThatFit) {
  request_.tp_size = 2;
  request_.concurrency = 32;
  request_.device_memory_bytes = 80 * kGiB;
  std::string message(MakeParallelPlan(spec_, request_).status().message());
  auto number_after = [&message](const std::string& words) {
    size_t at = message.find(words);
    return at == std::string::npos ? 0 : std::stoi(message.substr(at + words.size()));
  };
  PlanRequest shorter = request_;
  shorter.context_tokens = number_after("--context up to ");
  EXPECT_TRUE(MakeParallelPlan(spec_, shorter).ok()) << message;
  shorter.context_tokens += 1;
  EXPECT_FALSE(MakeParallelPlan(spec_, shorter).ok()) << message;
  PlanRequest fewer = request_;
  fewer.concurrency = number_after("--concurrency up to ");
  EXPECT_TRUE(MakeParallelPlan(spec_, fewer).ok()) << message;
  fewer.concurrency += 1;
  EXPECT_FALSE(MakeParallelPlan(spec_, fewer).ok()) << message;
}

TEST_F(ParallelPlanTest, WeightsThatDoNotFitLeaveOnlyLargerPlansToSuggest) {
  request_.device_memory_bytes = 80 * kGiB;
  ExpectRefused(AllOf(Not(HasSubstr("--context up to")), Not(HasSubstr("--concurrency up to")),
                      HasSubstr("would fit: --tp 2 --pp 1")));
  request_.device_memory_bytes = kGiB / 1024;
  ExpectRefused(HasSubstr("nothing legal would fit"));
}

TEST_F(ParallelPlanTest, GivenMemoryThePoolIsWhatTheFullestRankHasRoomFor) {
  request_.tp_size = 4;
  request_.pp_size = 3;
  request_.device_memory_bytes = 80 * kGiB;
  ParallelPlan plan = MakeParallelPlan(spec_, request_).value();
  int64_t usable = static_cast<int64_t>(0.9 * 80 * kGiB);
  int64_t most = 0;
  for (const RankPlan& rank : plan.ranks) {
    EXPECT_EQ(rank.kv_blocks, plan.kv_blocks);
    EXPECT_LE(rank.total_bytes(), usable);
    most = std::max(most, rank.total_bytes() + KvBytesPerBlock(spec_, rank.shard, DType::kBF16));
  }
  EXPECT_GT(most, usable);
  EXPECT_GE(plan.kv_blocks, plan.blocks_wanted);
}

TEST_F(ParallelPlanTest, ContextZeroMeansTheModelsLongest) {
  request_.context_tokens = 0;
  EXPECT_EQ(MakeParallelPlan(spec_, request_)->context_tokens, 131072);
}

TEST_F(ParallelPlanTest, NumbersOutOfRangeAreRefusedByTheirFlag) {
  auto refused_as = [&](auto PlanRequest::*field, auto value) {
    PlanRequest request = request_;
    request.*field = value;
    absl::Status status = MakeParallelPlan(spec_, request).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(refused_as(&PlanRequest::tp_size, 0), HasSubstr("--tp is 0"));
  EXPECT_THAT(refused_as(&PlanRequest::pp_size, -1), HasSubstr("--pp is -1"));
  EXPECT_THAT(refused_as(&PlanRequest::devices_per_node, -1), HasSubstr("--devices-per-node"));
  EXPECT_THAT(refused_as(&PlanRequest::concurrency, 0), HasSubstr("--concurrency"));
  EXPECT_THAT(refused_as(&PlanRequest::context_tokens, int64_t{131073}), HasSubstr("131072"));
  EXPECT_THAT(refused_as(&PlanRequest::memory_fraction, 0.0), HasSubstr("fraction"));
  EXPECT_THAT(refused_as(&PlanRequest::dtype, DType::kF16), HasSubstr("bf16 or fp32"));
  EXPECT_THAT(refused_as(&PlanRequest::device_memory_bytes, std::optional<int64_t>(0)),
              HasSubstr("--device-memory"));
}

TEST_F(ParallelPlanTest, AbsurdNumbersNeitherOverflowNorAllocate) {
  spec_.num_layers = 4096;
  spec_.attention = {4096, 4096, 256, {}};
  spec_.hidden_size = 1 << 18;
  spec_.mlp.intermediate_size = 1 << 22;
  spec_.max_position = int64_t{1} << 27;
  request_.context_tokens = spec_.max_position;
  request_.concurrency = 1 << 20;
  ExpectRefused(HasSubstr("64 bits"));
  request_.device_memory_bytes = INT64_MAX;
  ExpectRefused(HasSubstr("needs 8192.00 PiB"));
  request_.tp_size = 4096;
  request_.pp_size = 4096;
  EXPECT_THAT(std::string(MakeParallelPlan(spec_, request_).status().message()),
              HasSubstr("16777216 ranks"));
}

}  // namespace
}  // namespace lockstep::model
