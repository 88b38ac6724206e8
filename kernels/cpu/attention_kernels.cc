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
#include "hwy/contrib/math/math-inl.h"
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
  float* weights;  // [kMaxQueries]: the sum of the weights so far
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
    end = weights + kMaxQueries;
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
      : task_(task), layout_(layout), layer_(layer), scratch_(scratch) {}

  void Load(int64_t first_token, int64_t end_token) const {
    for (int64_t t = first_token; t < end_token; t += kBlockTokens) {
      int64_t block = task_.sequence->block_table[t / kBlockTokens];
      int64_t offset =
          block * layout_.block_bytes() + task_.kv_head * layout_.block_bytes() / layout_.kv_heads;
      int at = static_cast<int>(t - first_token);
      LoadKeys(reinterpret_cast<const T*>(layer_.keys + offset), at);
      LoadValues(reinterpret_cast<const T*>(layer_.values + offset), at);
    }
  }

 private:
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
};

// Turns one vector's scores of the tokens [0, visible) of a chunk into weights relative to the
// largest score so far, and brings the running sums onto the same footing.
HWY_INLINE void SoftmaxStep(float* scores, int64_t visible, float& largest, float& weight_sum,
                            float* sums, int padded_dim) {
  const F32 d;
  const VF none = hn::Set(d, -std::numeric_limits<float>::infinity());
  VF s[kTokens / kLanes];
  VF top = none;
#pragma GCC unroll 16
  for (int v = 0; v < kTokens / kLanes; ++v) {
    const auto hidden = hn::Ge(hn::Iota(d, static_cast<float>(v * kLanes)),
                               hn::Set(d, static_cast<float>(visible)));
    s[v] = hn::IfThenElse(hidden, none, hn::Load(d, scores + v * kLanes));
    top = hn::Max(top, s[v]);
  }
  float new_largest = std::max(largest, hn::GetLane(hn::MaxOfLanes(d, top)));
  VF total = hn::Zero(d);
#pragma GCC unroll 16
  for (int v = 0; v < kTokens / kLanes; ++v) {
    s[v] = hn::Exp(d, hn::Sub(s[v], hn::Set(d, new_largest)));
    hn::Store(s[v], d, scores + v * kLanes);
    total = hn::Add(total, s[v]);
  }
  const VF scale = hn::Exp(d, hn::Set(d, largest - new_largest));
  weight_sum = weight_sum * hn::GetLane(scale) + hn::GetLane(hn::SumOfLanes(d, total));
  largest = new_largest;
  for (int i = 0; i < padded_dim; i += kLanes) {
    hn::Store(hn::Mul(hn::Load(d, sums + i), scale), d, sums + i);
  }
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
    StageQueries();
    std::fill_n(scratch_.sums, queries_ * padded_dim_, 0.0f);
    std::fill_n(scratch_.largest, queries_, -std::numeric_limits<float>::infinity());
    std::fill_n(scratch_.weights, queries_, 0.0f);
    std::fill_n(scratch_.values, kTokens * padded_dim_, 0.0f);
    std::fill_n(scratch_.keys, kTokens * padded_dim_, 0.0f);
    ChunkLoader<T> loader(task_, layout_, layer_, scratch_);
    int64_t end = task_.sequence->first_position + task_.row_end;
    for (int64_t chunk = 0; chunk < end; chunk += kTokens) {
      int64_t chunk_end = std::min<int64_t>(end, chunk + kTokens);
      loader.Load(chunk, chunk_end);
      for (int first = 0; first < queries_; first += kTileRows<1>) AttendChunk(chunk, first);
    }
    WriteOut();
  }

 private:
  int64_t RowOf(int query) const { return task_.row_begin + query / task_.group; }
  int HeadOf(int query) const { return task_.kv_head * task_.group + query % task_.group; }
  int TileRows(int first) const { return std::min(kTileRows<1>, queries_ - first); }

  void StageQueries() {
    int head_dim = layout_.head_dim;
    for (int query = 0; query < queries_; ++query) {
      int first = query / kTileRows<1> * kTileRows<1>;
      int rows = TileRows(first);
      const float* from =
          task_.q.row(task_.sequence->first_row + RowOf(query)) + HeadOf(query) * head_dim;
      float* to = scratch_.q + first * head_dim + (query - first);
      for (int i = 0; i < head_dim; ++i) to[i * rows] = from[i] * task_.scale;
    }
  }

  // Query vectors [first, first + TileRows) against the loaded chunk.
  void AttendChunk(int64_t chunk, int first) {
    int rows = TileRows(first);
    float* scores = scratch_.scores + first * kScoreStride;
    for (int panel = 0; panel < kTokens / 32; ++panel) {
      RunTile<1, 0, 1, float>(rows, {.x = scratch_.q + first * layout_.head_dim,
                                     .panels = scratch_.keys + panel * layout_.head_dim * 32,
                                     .panel_stride = 0,
                                     .depth = layout_.head_dim,
                                     .start = nullptr,
                                     .start_stride = 0,
                                     .y = scores + panel * 32,
                                     .y_stride = kScoreStride});
    }
    for (int r = 0; r < rows; ++r) {
      int query = first + r;
      int64_t visible =
          std::min<int64_t>(kTokens, task_.sequence->first_position + RowOf(query) + 1 - chunk);
      if (visible <= 0) {
        HideAll(scores + r * kScoreStride);
        continue;
      }
      SoftmaxStep(scores + r * kScoreStride, visible, scratch_.largest[query],
                  scratch_.weights[query], scratch_.sums + query * padded_dim_, padded_dim_);
    }
    for (int panel = 0; panel < padded_dim_ / 32; ++panel) {
      float* sums = scratch_.sums + first * padded_dim_ + panel * 32;
      RunTile<1, kScoreStride, 1, float>(rows, {.x = scores,
                                                .panels = scratch_.values + panel * kTokens * 32,
                                                .panel_stride = 0,
                                                .depth = kTokens,
                                                .start = sums,
                                                .start_stride = padded_dim_,
                                                .y = sums,
                                                .y_stride = padded_dim_});
    }
  }

  void WriteOut() {
    int head_dim = layout_.head_dim;
    for (int query = 0; query < queries_; ++query) {
      float* to =
          task_.out.row(task_.sequence->first_row + RowOf(query)) + HeadOf(query) * head_dim;
      const float* from = scratch_.sums + query * padded_dim_;
      float inverse = 1.0f / scratch_.weights[query];
      // Adding zero makes a negative zero positive: its sign could tell how tiles were cut.
      for (int i = 0; i < head_dim; ++i) to[i] = from[i] * inverse + 0.0f;
    }
  }

  const AttentionTask& task_;
  const KvLayout& layout_;
  const KvLayer& layer_;
  const AttentionScratch scratch_;
  const int padded_dim_;
  const int queries_;
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
