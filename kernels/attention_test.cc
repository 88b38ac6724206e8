// Paged attention against the double-precision reference, and its independence of batch, chunking
// and threads.
#include "kernels/attention.h"

#include <cmath>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/memory.h"
#include "kernels/op_cases.h"
#include "kernels/reference.h"

namespace lockstep::kernels {
namespace {

// A batch with its cache. Blocks of the sequences are dealt out interleaved and backwards.
class Batch {
 public:
  explicit Batch(const AttentionCase& c) : c_(c) {
    layout_ = {c.kv_heads, c.head_dim, c.cache};
    int64_t rows = 0;
    int64_t blocks = 0;
    for (const SequenceCase& s : c.sequences) {
      rows += s.rows;
      blocks += (s.context + s.rows + kBlockTokens - 1) / kBlockTokens;
    }
    rows_ = rows;
    keys_pool_ = *HugeBuffer::Allocate(blocks * layout_.block_bytes());
    values_pool_ = *HugeBuffer::Allocate(blocks * layout_.block_bytes());
    DealBlocks(blocks);
    q_ = RandomNormal(rows * q_cols(), c.seed);
    for (size_t i = 0; i < c.sequences.size(); ++i) {
      int64_t tokens = c.sequences[i].context + c.sequences[i].rows;
      keys_.push_back(RandomNormal(tokens * kv_cols(), c.seed + 10 + i));
      values_.push_back(RandomNormal(tokens * kv_cols(), c.seed + 90 + i));
    }
  }

  int64_t q_cols() const { return c_.heads * c_.head_dim; }
  int64_t kv_cols() const { return c_.kv_heads * c_.head_dim; }
  int64_t rows() const { return rows_; }
  float scale() const { return 1 / std::sqrt(static_cast<float>(c_.head_dim)); }

  // Stores tokens [begin, end) of sequence i.
  void Store(size_t i, int64_t begin, int64_t end, ThreadPool& pool) {
    SequenceRows rows = {0, end - begin, begin, tables_[i]};
    ConstMatrix keys(keys_[i].data() + begin * kv_cols(), end - begin, kv_cols());
    ConstMatrix values(values_[i].data() + begin * kv_cols(), end - begin, kv_cols());
    StoreKv(keys, values, {&rows, 1}, layout_, layer(), pool);
  }

  // Attention of rows [begin, end) of sequence i, alone.
  std::vector<float> AttendPart(size_t i, int64_t begin, int64_t end, ThreadPool& pool) {
    int64_t first = FirstRow(i) + begin;
    ConstMatrix q(q_.data() + first * q_cols(), end - begin, q_cols());
    std::vector<float> out((end - begin) * q_cols());
    SequenceRows rows = {0, end - begin, c_.sequences[i].context + begin, tables_[i]};
    PagedAttention(q, {&rows, 1}, layout_, layer(), scale(), {out.data(), end - begin, q_cols()},
                   pool);
    return out;
  }

  std::vector<float> AttendAll(ThreadPool& pool) {
    std::vector<SequenceRows> sequences;
    for (size_t i = 0; i < c_.sequences.size(); ++i) {
      sequences.push_back({FirstRow(i), c_.sequences[i].rows, c_.sequences[i].context, tables_[i]});
    }
    std::vector<float> out(rows_ * q_cols());
    PagedAttention({q_.data(), rows_, q_cols()}, sequences, layout_, layer(), scale(),
                   {out.data(), rows_, q_cols()}, pool);
    return out;
  }

  void StoreAll(ThreadPool& pool) {
    for (size_t i = 0; i < c_.sequences.size(); ++i) {
      Store(i, 0, c_.sequences[i].context + c_.sequences[i].rows, pool);
    }
  }

  ReferenceMatrix Expected(size_t i) const {
    int64_t tokens = c_.sequences[i].context + c_.sequences[i].rows;
    std::vector<float> keys = RoundedTo(c_.cache, keys_[i]);
    std::vector<float> values = RoundedTo(c_.cache, values_[i]);
    ConstMatrix q(q_.data() + FirstRow(i) * q_cols(), c_.sequences[i].rows, q_cols());
    return ReferenceAttention(q, {keys.data(), tokens, kv_cols()},
                              {values.data(), tokens, kv_cols()}, c_.head_dim, scale());
  }

  int64_t FirstRow(size_t i) const {
    int64_t first = 0;
    for (size_t j = 0; j < i; ++j) first += c_.sequences[j].rows;
    return first;
  }

 private:
  void DealBlocks(int64_t blocks) {
    tables_.resize(c_.sequences.size());
    for (size_t i = 0; blocks > 0; i = (i + 1) % c_.sequences.size()) {
      int64_t tokens = c_.sequences[i].context + c_.sequences[i].rows;
      int64_t wanted = (tokens + kBlockTokens - 1) / kBlockTokens;
      if (std::ssize(tables_[i]) < wanted) tables_[i].push_back(static_cast<int32_t>(--blocks));
    }
  }

  KvLayer layer() const { return {keys_pool_.data(), values_pool_.data()}; }

  const AttentionCase& c_;
  KvLayout layout_;
  int64_t rows_ = 0;
  HugeBuffer keys_pool_;
  HugeBuffer values_pool_;
  std::vector<std::vector<int32_t>> tables_;
  std::vector<float> q_;
  std::vector<std::vector<float>> keys_;
  std::vector<std::vector<float>> values_;
};

TEST(AttentionTest, AgreesWithTheReference) {
  ThreadPool pool(2);
  for (const AttentionCase& c : AttentionCases()) {
    SCOPED_TRACE("seed " + std::to_string(c.seed));
    Batch batch(c);
    batch.StoreAll(pool);
    std::vector<float> out = batch.AttendAll(pool);
    for (size_t i = 0; i < c.sequences.size(); ++i) {
      ReferenceMatrix expected = batch.Expected(i);
      const float* actual = out.data() + batch.FirstRow(i) * batch.q_cols();
      for (size_t j = 0; j < expected.values.size(); ++j) {
        ASSERT_NEAR(actual[j], expected.values[j], 3e-6) << "sequence " << i << " element " << j;
      }
    }
  }
}

TEST(AttentionTest, ARowKeepsItsBitsAloneInABatchAndForAnyNumberOfThreads) {
  ThreadPool one(1), two(2), three(3);
  for (const AttentionCase& c : AttentionCases()) {
    SCOPED_TRACE("seed " + std::to_string(c.seed));
    Batch batch(c);
    batch.StoreAll(two);
    std::vector<float> together = batch.AttendAll(three);
    EXPECT_EQ(together, batch.AttendAll(one));
    for (size_t i = 0; i < c.sequences.size(); ++i) {
      for (int64_t r = 0; r < c.sequences[i].rows; ++r) {
        std::vector<float> alone = batch.AttendPart(i, r, r + 1, r % 2 == 0 ? one : two);
        auto begin = together.begin() + (batch.FirstRow(i) + r) * batch.q_cols();
        ASSERT_EQ(alone, std::vector<float>(begin, begin + batch.q_cols())) << "row " << r;
      }
    }
  }
}

TEST(AttentionTest, AChunkedPrefillGivesTheBitsOfAWholeOne) {
  AttentionCase c = {8, 2, 64, DType::kBF16, {{0, 150}}, 41};
  ThreadPool pool(2);
  Batch whole(c);
  whole.StoreAll(pool);
  std::vector<float> expected = whole.AttendAll(pool);
  for (int64_t chunk : {1, 7, 16, 50, 64, 149}) {
    Batch chunked(c);
    std::vector<float> out;
    for (int64_t begin = 0; begin < 150; begin += chunk) {
      int64_t end = std::min<int64_t>(150, begin + chunk);
      chunked.Store(0, begin, end, pool);
      std::vector<float> part = chunked.AttendPart(0, begin, end, pool);
      out.insert(out.end(), part.begin(), part.end());
    }
    EXPECT_EQ(out, expected) << "in chunks of " << chunk;
  }
}

}  // namespace
}  // namespace lockstep::kernels
