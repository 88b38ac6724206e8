// The slices of all ranks of a group must tile every tensor exactly, and their bytes must be what
// the planner promised.
#include "model/weights_of_shard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <tuple>

#include "model/model_examples.h"
#include "model/shard_memory.h"

namespace lockstep::model {
namespace {

std::vector<WeightSlice> SlicesOf(const DecoderSpec& spec, const RankShard& shard) {
  return WeightsOfShard(spec, DefaultTpPlan(spec), shard).value();
}

bool IsNorm(const WeightSlice& slice) { return slice.full.cols == 1; }

/// How often each element of a tensor is held, by tensor name, in a grid of its distinct borders.
class Coverage {
 public:
  void Add(const WeightSlice& slice) { slices_[slice.tensor_name].push_back(slice); }

  /// Every element of every tensor must be held by exactly `expected(slice)` ranks: the areas add
  /// up to that many times the tensor's, and any two slices are equal or disjoint.
  template <typename Expected>
  void CheckEachElementIsHeld(Expected expected) const {
    for (const auto& [name, slices] : slices_) {
      int64_t area = 0;
      for (const WeightSlice& slice : slices) area += slice.rows.size() * slice.cols.size();
      const WeightShape full = slices.front().full;
      EXPECT_EQ(area, expected(slices.front()) * full.rows * full.cols) << name;
      for (const WeightSlice& a : slices) {
        for (const WeightSlice& b : slices) {
          bool equal = a.rows == b.rows && a.cols == b.cols;
          bool disjoint = a.rows.end <= b.rows.begin || b.rows.end <= a.rows.begin ||
                          a.cols.end <= b.cols.begin || b.cols.end <= a.cols.begin;
          EXPECT_TRUE(equal || disjoint) << name;
        }
      }
    }
  }
  size_t tensors() const { return slices_.size(); }

 private:
  std::map<std::string, std::vector<WeightSlice>> slices_;
};

class WeightsOfShardTest : public testing::TestWithParam<std::tuple<int, int>> {
 protected:
  int tp_size() const { return std::get<0>(GetParam()); }
  int pp_size() const { return std::get<1>(GetParam()); }

  template <typename Body>
  void ForEachRank(const DecoderSpec& spec, Body body) const {
    for (int stage = 0; stage < pp_size(); ++stage) {
      for (int rank = 0; rank < tp_size(); ++rank) {
        body(MakeShard(spec, tp_size(), pp_size(), rank, stage));
      }
    }
  }
};

TEST_P(WeightsOfShardTest, RanksTogetherHoldEveryTensorExactly) {
  DecoderSpec spec = SpecOf(SmallLlamaConfig());
  Coverage coverage;
  ForEachRank(spec, [&](const RankShard& shard) {
    for (const WeightSlice& slice : SlicesOf(spec, shard)) coverage.Add(slice);
  });
  int kv_copies = std::max(1, tp_size() / spec.attention.kv_heads);
  coverage.CheckEachElementIsHeld([&](const WeightSlice& slice) -> int64_t {
    if (IsNorm(slice)) return tp_size();
    bool key_value = slice.role == WeightRole::kKey || slice.role == WeightRole::kValue;
    return key_value ? kv_copies : 1;
  });
  EXPECT_EQ(coverage.tensors(), 9u * spec.num_layers + 3u);
}

TEST_P(WeightsOfShardTest, PlannedBytesAreThoseOfTheList) {
  for (const std::string& config : {SmallLlamaConfig(), Llama1bConfig(), Llama70bConfig()}) {
    DecoderSpec spec = SpecOf(config);
    for (DType dtype : {DType::kBF16, DType::kF32}) {
      ForEachRank(spec, [&](const RankShard& shard) {
        int64_t listed = 0;
        for (const WeightSlice& slice : SlicesOf(spec, shard)) {
          DType stored = IsNorm(slice) ? DType::kF32 : dtype;
          listed += slice.rows.size() * slice.cols.size() * static_cast<int64_t>(SizeOf(stored));
        }
        EXPECT_EQ(WeightBytes(spec, shard, dtype), listed);
      });
    }
  }
}

TEST_P(WeightsOfShardTest, QueryHeadsLieWithTheKeyHeadsThatTheyAttendTo) {
  DecoderSpec spec = SpecOf(SmallLlamaConfig());
  ForEachRank(spec, [&](const RankShard& shard) {
    for (int64_t head = shard.heads.begin; head < shard.heads.end; ++head) {
      int64_t kv_head = head / spec.attention.group();
      EXPECT_GE(kv_head, shard.kv_heads.begin);
      EXPECT_LT(kv_head, shard.kv_heads.end);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Sizes, WeightsOfShardTest,
                         testing::Combine(testing::Values(1, 2, 4, 8), testing::Values(1, 2, 4)));

TEST(WeightsOfShard, VocabularyThatTpDoesNotDivideIsStillCoveredOnce) {
  DecoderSpec spec = SpecOf(SmallLlamaConfig());
  spec.vocab_size = 1021;
  Coverage coverage;
  for (int rank = 0; rank < 4; ++rank) {
    for (const WeightSlice& slice : SlicesOf(spec, MakeShard(spec, 4, 1, rank, 0))) {
      if (slice.role == WeightRole::kEmbedding || slice.role == WeightRole::kHead) {
        coverage.Add(slice);
      }
    }
  }
  coverage.CheckEachElementIsHeld([](const WeightSlice&) { return 1; });
}

TEST(WeightsOfShard, ATiedHeadIsListedOnceOnOneStageAndOnTheLastOfTwo) {
  DecoderSpec spec = SpecOf(SmallLlamaConfig());
  spec.tie_embeddings = true;
  auto uses = [&](const RankShard& shard) {
    std::vector<WeightRole> roles;
    for (const WeightSlice& slice : SlicesOf(spec, shard)) {
      if (slice.tensor_name == "model.embed_tokens.weight") roles.push_back(slice.role);
    }
    return roles;
  };
  EXPECT_THAT(uses(MakeShard(spec, 2, 1, 1, 0)), testing::ElementsAre(WeightRole::kEmbedding));
  EXPECT_THAT(uses(MakeShard(spec, 2, 2, 1, 0)), testing::ElementsAre(WeightRole::kEmbedding));
  EXPECT_THAT(uses(MakeShard(spec, 2, 2, 1, 1)), testing::ElementsAre(WeightRole::kHead));
}

TEST(WeightsOfShard, SlicesFollowTheOrderOfTheForwardPass) {
  DecoderSpec spec = SpecOf(SmallLlamaConfig());
  std::vector<WeightSlice> slices = SlicesOf(spec, MakeShard(spec, 1, 1, 0, 0));
  EXPECT_EQ(slices.front().tensor_name, "model.embed_tokens.weight");
  EXPECT_EQ(slices[1].tensor_name, "model.layers.0.input_layernorm.weight");
  EXPECT_EQ(slices[slices.size() - 2].tensor_name, "model.norm.weight");
  EXPECT_EQ(slices.back().tensor_name, "lm_head.weight");
}

TEST(WeightsOfShard, APlanThatWouldSkipTheSumIsRefusedByName) {
  DecoderSpec spec = SpecOf(SmallLlamaConfig());
  TpPlan plan = DefaultTpPlan(spec);
  plan.insert(plan.begin(), {"model.layers.*.mlp.down_proj", TpStyle::kReplicate});
  absl::Status status = WeightsOfShard(spec, plan, MakeShard(spec, 2, 1, 0, 0)).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              testing::AllOf(testing::HasSubstr("down_proj"), testing::HasSubstr("rowwise")));
}

}  // namespace
}  // namespace lockstep::model
