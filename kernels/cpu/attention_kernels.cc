// Attention of a few dozen query vectors over the cache, one absolute chunk of tokens at a time:
// scores and weighted values are the product's register tile, the softmax between them is online.
#include "kernels/cpu/attention_kernels.h"

#include <algorithm>
#include <limits>
#include <utility>

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_kernels.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, as Highway wants it.
#include "hwy/highway.h"
#include "kernels/cpu/tile-inl.h"

#ifndef LOCKSTEP_KERNELS_CPU_ATTENTION_KERNELS_ONCE
#define LOCKSTEP_KERNELS_CPU_ATTENTION_KERNELS_ONCE
namespace lockstep::kernels::cpu {

// Tokens per step of the online softmax. Chunks begin at multiples of it, so that the order of a
// row's additions depends on its position alone.
constexpr int kTokens = 64;
// Scores of one query vector lie this far apart: a chunk, and a cache line against aliasing.
constexpr int kScoreStride = kTokens + 16;

constexpr int PaddedDim(int head_dim) { return (head_dim + 31) / 32 * 32; }

// The parts of a task's scratch, in floats.
struct AttentionScratch {
  float* q;        // [tiles][head_dim][rows of the tile], scaled
  float* keys;     // [kTokens / 32][head_dim][32]
  float* values;   // [padded_dim / 32][kTokens][32]
  float* scores;   // [kMaxQueries][kScoreStride]
  float* sums;     // [kMaxQueries][padded_dim]: weighted values so far
  float* largest;  // [kMaxQueries]: the largest score so far
  float* weights;  // [kMaxQueries][16]: partial sums of the weights so far
  float* end;

  AttentionScratch(float* base, int head_dim) {
    int padded = PaddedDim(head_dim);
    q = base;
    keys = q + kMaxQueries * padded;
    values = keys + kTokens * padded;
    scores = values + kTokens * padded;
    sums = scores + kMaxQueries * kScoreStride;
    largest = sums + kMaxQueries * padded;
    weights = largest + kMaxQueries;
    end = weights + kMaxQueries * 16;
  }
};

}  // namespace lockstep::kernels::cpu
#endif  // LOCKSTEP_KERNELS_CPU_ATTENTION_KERNELS_ONCE

HWY_BEFORE_NAMESPACE();
namespace lockstep::kernels::cpu {
namespace HWY_NAMESPACE {

// Sixteen elements of the cache as fp32.
HWY_INLINE void Copy16(const float* from, float* to) {
  for (int v = 0; v < 16; v += kLanes) hn::StoreU(hn::LoadU(F32(), from + v), F32(), to + v);
}

HWY_INLINE void Copy16(const uint16_t* from, float* to) {
  const hn::Rebind<uint16_t, F32> d16;
  for (int v = 0; v < 16; v += kLanes) {
    const auto wide = hn::ShiftLeft<16>(hn::PromoteTo(U32(), hn::LoadU(d16, from + v)));
    hn::StoreU(hn::BitCast(F32(), wide), F32(), to + v);
  }
}

// One chunk of one KV head out of the cache into panels. Slots of absent blocks keep old, finite
// contents: their scores are masked.
template <typename T>
class ChunkLoader {
 public:
  ChunkLoader(const AttentionTask& task, const KvLayout& layout, const KvLayer& layer,
              const AttentionScratch& scratch)
      : task_(task),
        layout_(layout),
        layer_(layer),
        scratch_(scratch),
        head_bytes_(layout.block_bytes() / layout.kv_heads) {}

  void Load(int kv_head, int64_t first_token, int64_t end_token) const {
    for (int64_t t = first_token; t < end_token; t += kBlockTokens) {
      int64_t offset = OffsetOf(kv_head, t);
      int at = static_cast<int>(t - first_token);
      LoadKeys(reinterpret_cast<const T*>(layer_.keys + offset), at);
      LoadValues(reinterpret_cast<const T*>(layer_.values + offset), at);
    }
  }

 private:
  // Of a head's part of the block of token t, in bytes.
  int64_t OffsetOf(int kv_head, int64_t t) const {
    int64_t block = task_.sequence->block_table[t / kBlockTokens];
    return block * layout_.block_bytes() + kv_head * head_bytes_;
  }

  void LoadKeys(const T* from, int at) const {
    float* to = scratch_.keys + (at / 32) * layout_.head_dim * 32 + at % 32;
    for (int i = 0; i < layout_.head_dim; ++i) Copy16(from + i * kBlockTokens, to + i * 32);
  }

  void LoadValues(const T* from, int at) const {
    int head_dim = layout_.head_dim;
    for (int t = 0; t < kBlockTokens; ++t, from += head_dim) {
      float* to = scratch_.values + (at + t) * 32;
      int i = 0;
      for (; i + 16 <= head_dim; i += 16) Copy16(from + i, to + (i / 32) * kTokens * 32 + i % 32);
      for (; i < head_dim; ++i) to[(i / 32) * kTokens * 32 + i % 32] = ToFloat(from[i]);
    }
  }

  static float ToFloat(float value) { return value; }
  static float ToFloat(uint16_t value) { return Bf16ToFloat(value); }

  const AttentionTask& task_;
  const KvLayout& layout_;
  const KvLayer& layer_;
  const AttentionScratch& scratch_;
  const int64_t head_bytes_;
};

// e^x for x <= 0, 0 below -87. Relative error below 2e-7 (Taylor's series of 2^f on [-1/2, 1/2] up
// to f^7), a third of the work of a general exponential.
HWY_INLINE VF ExpOfNegative(VF x) {
  const F32 d;
  const hn::Repartition<int32_t, F32> di;
  const VF log2e_high = hn::Set(d, 1.44269502f);
  const VF log2e_low = hn::Set(d, 1.925963033e-8f);
  const auto vanishes = hn::Lt(x, hn::Set(d, -87.0f));
  x = hn::Max(x, hn::Set(d, -87.0f));
  const VF whole = hn::Round(hn::Mul(x, log2e_high));
  const VF f = hn::MulAdd(x, log2e_low, hn::MulSub(x, log2e_high, whole));
  VF power = hn::Set(d, 1.525273380e-5f);
  power = hn::MulAdd(power, f, hn::Set(d, 1.540353039e-4f));
  power = hn::MulAdd(power, f, hn::Set(d, 1.333355815e-3f));
  power = hn::MulAdd(power, f, hn::Set(d, 9.618129108e-3f));
  power = hn::MulAdd(power, f, hn::Set(d, 5.550410866e-2f));
  power = hn::MulAdd(power, f, hn::Set(d, 2.402265070e-1f));
  power = hn::MulAdd(power, f, hn::Set(d, 6.931471806e-1f));
  power = hn::MulAdd(power, f, hn::Set(d, 1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::ConvertTo(di, whole));
  const VF result = hn::BitCast(d, hn::Add(hn::BitCast(di, power), exponent));
  return hn::IfThenElse(vanishes, hn::Zero(d), result);
}

// A query vector's running softmax: the largest score so far and what was summed relative to it.
struct Running {
  float& largest;
  float* weights;  // [16] partial sums
  float* sums;     // [padded_dim]
  int padded_dim;
};

HWY_INLINE void Scale(float* values, int count, VF scale) {
  for (int i = 0; i < count; i += kLanes) {
    hn::Store(hn::Mul(hn::Load(F32(), values + i), scale), F32(), values + i);
  }
}

// Turns one vector's scores of the tokens [0, visible) of a chunk into weights relative to the
// largest score so far.
HWY_INLINE void SoftmaxStep(float* scores, int64_t visible, const Running& running) {
  const F32 d;
  const VF none = hn::Set(d, -std::numeric_limits<float>::infinity());
  const VF end = hn::Set(d, static_cast<float>(visible));
  VF s[kTokens / kLanes];
  VF top = none;
#pragma GCC unroll 16
  for (int v = 0; v < kTokens / kLanes; ++v) {
    const auto hidden = hn::Ge(hn::Iota(d, static_cast<float>(v * kLanes)), end);
    s[v] = hn::IfThenElse(hidden, none, hn::Load(d, scores + v * kLanes));
    top = hn::Max(top, s[v]);
  }
  VF largest = hn::Set(d, running.largest);
  // Most chunks bring no larger score, and then nothing has to be brought onto a new footing.
  if (!hn::AllTrue(d, hn::Le(top, largest))) {
    const VF new_largest = hn::Max(largest, hn::MaxOfLanes(d, top));
    const VF scale = ExpOfNegative(hn::Sub(largest, new_largest));
    Scale(running.weights, 16, scale);
    Scale(running.sums, running.padded_dim, scale);
    running.largest = hn::GetLane(new_largest);
    largest = new_largest;
  }
#pragma GCC unroll 16
  for (int v = 0; v < kTokens / kLanes; ++v) {
    s[v] = ExpOfNegative(hn::Sub(s[v], largest));
    hn::Store(s[v], d, scores + v * kLanes);
    float* partial = running.weights + v * kLanes % 16;
    hn::Store(hn::Add(hn::Load(d, partial), s[v]), d, partial);
  }
}

// to = from * scale. Adding zero makes a negative zero positive: its sign could tell how tiles were
// cut.
HWY_INLINE void ScaledCopy(const float* from, int count, float scale, float* to) {
  const VF factor = hn::Set(F32(), scale);
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    hn::StoreU(hn::MulAdd(hn::LoadU(F32(), from + i), factor, hn::Zero(F32())), F32(), to + i);
  }
  for (; i < count; ++i) to[i] = from[i] * scale + 0.0f;
}

HWY_INLINE void HideAll(float* scores) {
  for (int v = 0; v < kTokens; v += kLanes) hn::Store(hn::Zero(F32()), F32(), scores + v);
}

class TaskRun {
 public:
  TaskRun(const AttentionTask& task, const KvLayout& layout, const KvLayer& layer, float* scratch)
      : task_(task),
        layout_(layout),
        layer_(layer),
        scratch_(scratch, layout.head_dim),
        padded_dim_(PaddedDim(layout.head_dim)),
        queries_(static_cast<int>(task.row_end - task.row_begin) * task.group) {}

  template <typename T>
  void Run() {
    int heads = task_.kv_head_end - task_.kv_head_begin;
    for (int h = 0; h < heads; ++h) StageQueries(h);
    std::fill_n(scratch_.sums, heads * queries_ * padded_dim_, 0.0f);
    std::fill_n(scratch_.largest, heads * queries_, -std::numeric_limits<float>::infinity());
    std::fill_n(scratch_.weights, heads * queries_ * 16, 0.0f);
    std::fill_n(scratch_.values, kTokens * padded_dim_, 0.0f);
    std::fill_n(scratch_.keys, kTokens * padded_dim_, 0.0f);
    ChunkLoader<T> loader(task_, layout_, layer_, scratch_);
    int64_t end = task_.sequence->first_position + task_.row_end;
    // All heads of a chunk in turn, since a block holds them side by side.
    for (int64_t chunk = 0; chunk < end; chunk += kTokens) {
      for (int h = 0; h < heads; ++h) {
        loader.Load(task_.kv_head_begin + h, chunk, std::min<int64_t>(end, chunk + kTokens));
        for (int first = 0; first < queries_; first += kTileRows<1>) AttendChunk(chunk, h, first);
      }
    }
    for (int h = 0; h < heads; ++h) WriteOut(h);
  }

 private:
  int64_t RowOf(int query) const { return task_.row_begin + query / task_.group; }
  int TileRows(int first) const { return std::min(kTileRows<1>, queries_ - first); }
  // Where query vector `query` of the task's head h keeps its state.
  int StateOf(int h, int query) const { return h * queries_ + query; }
  // Of the query vector's element 0 in q and out.
  int64_t ColumnOf(int h, int query) const {
    return ((task_.kv_head_begin + h) * task_.group + query % task_.group) * layout_.head_dim;
  }

  void StageQueries(int h) {
    int head_dim = layout_.head_dim;
    // Nothing has been scored yet.
    float* scaled = scratch_.scores;
    for (int first = 0; first < queries_; first += kTileRows<1>) {
      int rows = TileRows(first);
      for (int r = 0; r < rows; ++r) {
        int query = first + r;
        const float* from =
            task_.q.row(task_.sequence->first_row + RowOf(query)) + ColumnOf(h, query);
        ScaledCopy(from, head_dim, task_.scale, scaled + r * head_dim);
      }
      TransposeTo(scaled, head_dim, rows, head_dim, scratch_.q + StateOf(h, first) * head_dim);
    }
  }

  // Tokens of the chunk that query vector `query` sees; none or less when the chunk lies after it.
  int64_t Visible(int64_t chunk, int query) const {
    return std::min<int64_t>(kTokens, task_.sequence->first_position + RowOf(query) + 1 - chunk);
  }

  // Query vectors [first, first + TileRows) against the loaded chunk. Tokens that none of them sees
  // are left out: their weights would be zeros.
  void AttendChunk(int64_t chunk, int h, int first) {
    int rows = TileRows(first);
    int64_t visible = Visible(chunk, first + rows - 1);
    if (visible <= 0) return;
    float* scores = scratch_.scores + first * kScoreStride;
    for (int at = 0; at < visible; at += kPanelWidth) {
      RunTile<1, 0, 1, float>(rows, {.x = scratch_.q + StateOf(h, first) * layout_.head_dim,
                                     .panels = scratch_.keys + at * layout_.head_dim,
                                     .panel_stride = 0,
                                     .depth = layout_.head_dim,
                                     .start = nullptr,
                                     .start_stride = 0,
                                     .y = scores + at,
                                     .y_stride = kScoreStride,
                                     .upcoming = nullptr});
    }
    for (int r = 0; r < rows; ++r) WeighScores(chunk, h, first + r);
    for (int at = 0; at < padded_dim_; at += kPanelWidth) {
      float* sums = scratch_.sums + StateOf(h, first) * padded_dim_ + at;
      RunTile<1, kScoreStride, 1, float>(rows, {.x = scores,
                                                .panels = scratch_.values + at * kTokens,
                                                .panel_stride = 0,
                                                .depth = visible,
                                                .start = sums,
                                                .start_stride = padded_dim_,
                                                .y = sums,
                                                .y_stride = padded_dim_,
                                                .upcoming = nullptr});
    }
  }

  void WeighScores(int64_t chunk, int h, int query) {
    float* scores = scratch_.scores + query * kScoreStride;
    int64_t visible = Visible(chunk, query);
    if (visible <= 0) return HideAll(scores);
    int state = StateOf(h, query);
    SoftmaxStep(scores, visible,
                {.largest = scratch_.largest[state],
                 .weights = scratch_.weights + state * 16,
                 .sums = scratch_.sums + state * padded_dim_,
                 .padded_dim = padded_dim_});
  }

  void WriteOut(int h) {
    for (int query = 0; query < queries_; ++query) {
      int state = StateOf(h, query);
      VF total = hn::Zero(F32());
      for (int i = 0; i < 16; i += kLanes) {
        total = hn::Add(total, hn::Load(F32(), scratch_.weights + state * 16 + i));
      }
      float weight = hn::GetLane(hn::SumOfLanes(F32(), total));
      float* to = task_.out.row(task_.sequence->first_row + RowOf(query)) + ColumnOf(h, query);
      ScaledCopy(scratch_.sums + state * padded_dim_, layout_.head_dim, 1.0f / weight, to);
    }
  }

  const AttentionTask& task_;
  const KvLayout& layout_;
  const KvLayer& layer_;
  const AttentionScratch scratch_;
  const int padded_dim_;
  const int queries_;  // of one KV head
};

void AttendTaskImpl(const AttentionTask& task, const KvLayout& layout, const KvLayer& layer,
                    float* scratch) {
  TaskRun run(task, layout, layer, scratch);
  if (layout.dtype == DType::kF32) return run.Run<float>();
  run.Run<uint16_t>();
}

}  // namespace HWY_NAMESPACE
}  // namespace lockstep::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lockstep::kernels::cpu {

HWY_EXPORT(AttendTaskImpl);

int64_t AttentionScratchFloats(int head_dim) {
  return AttentionScratch(nullptr, head_dim).end - static_cast<float*>(nullptr);
}

void AttendTask(const AttentionTask& task, const KvLayout& layout, const KvLayer& layer,
                float* scratch) {
  HWY_DYNAMIC_DISPATCH(AttendTaskImpl)(task, layout, layer, scratch);
}

}  // namespace lockstep::kernels::cpu
#endif  // HWY_ONCE
