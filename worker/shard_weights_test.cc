// Loading: one copy, announced progress, and errors that name the tensor.
#include "worker/shard_weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <limits>
#include <string>

#include "model/model_examples.h"
#include "model/shard_memory.h"
#include "worker/testing/random_weights.h"

namespace lockstep::worker {
namespace {

using testing::HasSubstr;

// RandomWeights, but for one tensor that spoils the load.
class SpoiledWeights final : public model::WeightSource {
 public:
  SpoiledWeights(std::string tensor, bool missing)
      : tensor_(std::move(tensor)), missing_(missing) {}

  absl::StatusOr<model::TensorRows> Rows(std::string_view name, model::WeightShape full,
                                         int64_t row_begin, int64_t rows, int64_t col_begin,
                                         int64_t cols,
                                         std::vector<std::byte>& scratch) const override {
    auto result = good_->Rows(name, full, row_begin, rows, col_begin, cols, scratch);
    if (name != tensor_) return result;
    if (missing_) return absl::NotFoundError("no tensor of that name");
    const float nan = std::numeric_limits<float>::quiet_NaN();
    std::memcpy(scratch.data(), &nan, sizeof(nan));
    return result;
  }

 private:
  const std::unique_ptr<model::WeightSource> good_ = MakeRandomWeights(1);
  const std::string tensor_;
  const bool missing_;
};

struct Loaded {
  absl::StatusOr<ShardWeights> weights = absl::UnknownError("not loaded");
  int64_t progressed = 0;
  int64_t announced = 0;
};

Loaded Load(
    const model::WeightSource& source, const model::RankShard& shard, DType dtype,
    const std::function<bool()>& cancelled = [] { return false; }) {
  const model::DecoderSpec spec = model::SpecOf(model::SmallLlamaConfig());
  kernels::ThreadPool pool(2);
  Loaded loaded;
  loaded.weights = LoadShardWeights(
      spec, shard, source, dtype, pool,
      [&](int64_t done, int64_t total) {
        EXPECT_GE(done, loaded.progressed);
        loaded.progressed = done;
        loaded.announced = total;
      },
      cancelled);
  return loaded;
}

model::RankShard Shard(int tp, int pp, int tp_rank, int stage) {
  return model::MakeShard(model::SpecOf(model::SmallLlamaConfig()), tp, pp, tp_rank, stage);
}

TEST(ShardWeightsTest, HoldsWhatThePlanSaysAndNoMore) {
  const model::DecoderSpec spec = model::SpecOf(model::SmallLlamaConfig());
  for (auto [tp, pp] : {std::pair(1, 1), std::pair(4, 1), std::pair(2, 2)}) {
    const model::RankShard shard = Shard(tp, pp, tp - 1, pp - 1);
    Loaded loaded = Load(*MakeRandomWeights(1), shard, DType::kBF16);
    ASSERT_TRUE(loaded.weights.ok()) << loaded.weights.status();
    const int64_t planned = model::WeightBytes(spec, shard, DType::kBF16);
    EXPECT_EQ(loaded.progressed, planned);
    EXPECT_EQ(loaded.announced, planned);
    EXPECT_GE(loaded.weights->bytes, planned);
    EXPECT_LE(loaded.weights->bytes, 1.15 * planned);
    EXPECT_EQ(loaded.weights->layers.size(), 4u / pp);
    EXPECT_EQ(loaded.weights->embedding != nullptr, pp == 1);
  }
}

TEST(ShardWeightsTest, AMissingTensorIsNamed) {
  const std::string name = "model.layers.2.mlp.up_proj.weight";
  Loaded loaded = Load(SpoiledWeights(name, /*missing=*/true), Shard(1, 1, 0, 0), DType::kF32);
  EXPECT_EQ(loaded.weights.status().code(), absl::StatusCode::kNotFound);
}

TEST(ShardWeightsTest, AValueThatIsNotFiniteIsDataLossAndItsTensorIsNamed) {
  for (const std::string name : {"model.layers.1.self_attn.k_proj.weight", "model.norm.weight",
                                 "model.embed_tokens.weight"}) {
    Loaded loaded = Load(SpoiledWeights(name, /*missing=*/false), Shard(1, 1, 0, 0), DType::kBF16);
    EXPECT_EQ(loaded.weights.status().code(), absl::StatusCode::kDataLoss) << name;
    EXPECT_THAT(std::string(loaded.weights.status().message()), HasSubstr(name));
  }
}

TEST(ShardWeightsTest, LoadingStopsWhenCancelled) {
  std::atomic<int> asked{0};
  Loaded loaded =
      Load(*MakeRandomWeights(1), Shard(1, 1, 0, 0), DType::kF32, [&] { return ++asked > 3; });
  EXPECT_EQ(loaded.weights.status().code(), absl::StatusCode::kAborted);
  EXPECT_LT(asked, 10);
}

}  // namespace
}  // namespace lockstep::worker
