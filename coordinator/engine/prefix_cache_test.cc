// PrefixCache against an obvious model of itself, and its rules one by one.
#include "coordinator/engine/prefix_cache.h"

#include <map>
#include <random>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lockstep::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

/// Tokens of full blocks; block i is all `content[i]`.
std::vector<int32_t> Tokens(const std::vector<int32_t>& content) {
  std::vector<int32_t> tokens;
  for (int32_t value : content) tokens.insert(tokens.end(), kBlockTokens, value);
  return tokens;
}

/// Takes blocks for `content` and publishes them, as a sequence that shares nothing does.
std::vector<int32_t> Compute(PrefixCache& cache, const std::vector<int32_t>& content,
                             PrefixId id = PrefixId::kRoot) {
  std::vector<int32_t> blocks = cache.Take(static_cast<int64_t>(content.size()));
  for (size_t i = 0; i < content.size(); ++i) {
    id = cache.Publish(id, Tokens({content[i]}), blocks[i]);
  }
  return blocks;
}

TEST(PrefixCacheTest, FindsTheLongestBeginningThatWasPublished) {
  PrefixCache cache(10);
  const std::vector<int32_t> blocks = Compute(cache, {1, 2, 3});
  EXPECT_EQ(cache.Find(Tokens({1, 2, 3, 4})).blocks, blocks);
  EXPECT_THAT(cache.Find(Tokens({1, 2, 4})).blocks, ElementsAre(blocks[0], blocks[1]));
  EXPECT_THAT(cache.Find(Tokens({2, 3})).blocks, IsEmpty());
  std::vector<int32_t> partial = Tokens({1, 2});
  partial.pop_back();
  EXPECT_THAT(cache.Find(partial).blocks, ElementsAre(blocks[0]));
}

TEST(PrefixCacheTest, EqualTokensAfterAnotherPrefixAreAnotherBlock) {
  PrefixCache cache(10);
  const std::vector<int32_t> first = Compute(cache, {1, 3});
  const std::vector<int32_t> second = Compute(cache, {2, 3});
  EXPECT_EQ(cache.Find(Tokens({1, 3})).blocks, first);
  EXPECT_EQ(cache.Find(Tokens({2, 3})).blocks, second);
}

TEST(PrefixCacheTest, APrivateRootKeepsItsBlocksToItself) {
  PrefixCache cache(10);
  const std::vector<int32_t> blocks = Compute(cache, {1, 2}, PrivateRoot(7));
  EXPECT_THAT(cache.Find(Tokens({1, 2})).blocks, IsEmpty());
  EXPECT_THAT(cache.Find(Tokens({1, 2}), PrivateRoot(8)).blocks, IsEmpty());
  EXPECT_EQ(cache.Find(Tokens({1, 2}), PrivateRoot(7)).blocks, blocks);
}

TEST(PrefixCacheTest, WhatNobodyHoldsIsAvailableAndCanStillBeFound) {
  PrefixCache cache(4);
  const std::vector<int32_t> blocks = Compute(cache, {1, 2});
  EXPECT_EQ(cache.available_blocks(), 2);
  cache.Return(blocks);
  EXPECT_EQ(cache.available_blocks(), 4);
  EXPECT_EQ(cache.cached_blocks(), 2);
  const CachedPrefix found = cache.Find(Tokens({1, 2}));
  EXPECT_EQ(found.unheld_blocks, 2);
  cache.Hold(found);
  EXPECT_EQ(cache.used_blocks(), 2);
  EXPECT_EQ(cache.Find(Tokens({1, 2})).unheld_blocks, 0);
}

TEST(PrefixCacheTest, ABlockIsFreeWhenItsLastHolderReturnsIt) {
  PrefixCache cache(4);
  const std::vector<int32_t> blocks = Compute(cache, {1});
  cache.Hold(cache.Find(Tokens({1})));
  EXPECT_EQ(cache.CountSoleHeld(blocks), 0);
  cache.Return(blocks);
  EXPECT_EQ(cache.used_blocks(), 1);
  EXPECT_EQ(cache.CountSoleHeld(blocks), 1);
  cache.Return(blocks);
  EXPECT_EQ(cache.used_blocks(), 0);
}

TEST(PrefixCacheTest, EvictsTheLeastRecentlyUsedAndOfAChainTheEndFirst) {
  PrefixCache cache(4);
  const std::vector<int32_t> older = Compute(cache, {1, 2});
  const std::vector<int32_t> newer = Compute(cache, {3, 4});
  cache.Return(older);
  cache.Return(newer);
  // Used again, hence the newest.
  cache.Hold(cache.Find(Tokens({1, 2})));
  cache.Return(older);
  EXPECT_THAT(cache.Take(1), ElementsAre(newer[1]));
  EXPECT_EQ(cache.Find(Tokens({3, 4})).tokens(), kBlockTokens);
  EXPECT_THAT(cache.Take(1), ElementsAre(newer[0]));
  EXPECT_THAT(cache.Take(1), ElementsAre(older[1]));
  EXPECT_EQ(cache.Find(Tokens({1, 2})).tokens(), kBlockTokens);
}

TEST(PrefixCacheTest, ATwinOfAPublishedBlockIsNotFoundAndComesFreeAtOnce) {
  PrefixCache cache(4);
  const std::vector<int32_t> first = Compute(cache, {1});
  const std::vector<int32_t> twin = Compute(cache, {1, 2});
  EXPECT_THAT(cache.Find(Tokens({1, 2})).blocks, ElementsAre(first[0], twin[1]));
  cache.Return(twin);
  EXPECT_EQ(cache.cached_blocks(), 1);
  EXPECT_EQ(cache.available_blocks(), 3);
}

// Sequences come and go at random; a map of whole prefixes tells what each block must hold.
class RandomLives {
 public:
  explicit RandomLives(uint64_t seed) : random_(seed), cache_(Draw(4, 24)) {}

  void Step() {
    if (Draw(0, 2) > 0) {
      Start();
    } else if (!lives_.empty()) {
      Finish(Draw(0, static_cast<int64_t>(lives_.size()) - 1));
    }
    Check();
  }
  void FinishAll() {
    while (!lives_.empty()) Finish(0);
    Check();
  }
  int64_t hits() const { return hits_; }

 private:
  struct Life {
    std::vector<int32_t> blocks;
  };

  int64_t Draw(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random_);
  }

  void Start() {
    std::vector<int32_t> content;
    const int64_t length = Draw(1, 5);
    for (int64_t i = 0; i < length; ++i) content.push_back(static_cast<int32_t>(Draw(0, 1)));
    const CachedPrefix prefix = cache_.Find(Tokens(content));
    for (size_t i = 0; i < prefix.blocks.size(); ++i) {
      const std::vector<int32_t> until(content.begin(),
                                       content.begin() + static_cast<int64_t>(i) + 1);
      ASSERT_EQ(written_[prefix.blocks[i]], until) << "a block of another prefix";
    }
    const int64_t fresh = length - static_cast<int64_t>(prefix.blocks.size());
    if (prefix.unheld_blocks + fresh > cache_.available_blocks()) return;
    hits_ += static_cast<int64_t>(prefix.blocks.size());
    cache_.Hold(prefix);
    Life life{.blocks = prefix.blocks};
    PrefixId id = prefix.id;
    for (int32_t block : cache_.Take(fresh)) {
      ASSERT_EQ(holders_[block], 0) << "handed out while it is held";
      const auto end = content.begin() + static_cast<int64_t>(life.blocks.size()) + 1;
      written_[block] = std::vector<int32_t>(content.begin(), end);
      life.blocks.push_back(block);
      id = cache_.Publish(id, Tokens({*(end - 1)}), block);
    }
    for (int32_t block : life.blocks) ++holders_[block];
    lives_.push_back(life);
  }

  void Finish(int64_t index) {
    cache_.Return(lives_[index].blocks);
    for (int32_t block : lives_[index].blocks) --holders_[block];
    lives_.erase(lives_.begin() + index);
  }

  void Check() {
    int64_t used = 0;
    for (const auto& [block, holders] : holders_) used += holders > 0;
    ASSERT_EQ(cache_.used_blocks(), used);
    ASSERT_EQ(cache_.available_blocks() + used, cache_.num_blocks()) << "a block is lost";
  }

  std::mt19937_64 random_;
  PrefixCache cache_;
  std::map<int32_t, int> holders_;
  std::map<int32_t, std::vector<int32_t>> written_;  // the whole prefix up to the block's end
  std::vector<Life> lives_;
  int64_t hits_ = 0;
};

TEST(PrefixCachePropertyTest, NoBlockIsConfusedHandedOutTwiceOrLost) {
  int64_t hits = 0;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    RandomLives lives(seed);
    for (int step = 0; step < 200; ++step) {
      lives.Step();
      ASSERT_FALSE(testing::Test::HasFatalFailure()) << "seed " << seed << ", step " << step;
    }
    lives.FinishAll();
    hits += lives.hits();
  }
  // Else it would show nothing.
  EXPECT_GT(hits, 10000);
}

}  // namespace
}  // namespace lockstep::coordinator
