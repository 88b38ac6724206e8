// Drives the register tile over panels and row tiles: straight from packed weights for few rows,
// through an expanded fp32 slab that stays in the cache for many.
#include "kernels/cpu/product_kernels.h"

#include <algorithm>
#include <cstring>
#include <utility>

// Baseline (no vectors), AVX2 and AVX-512 are all that is worth compiling.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/product_kernels.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h, as Highway wants it.
#include "hwy/highway.h"
#include "kernels/cpu/tile-inl.h"

#ifndef LOCKSTEP_KERNELS_CPU_PRODUCT_KERNELS_ONCE
#define LOCKSTEP_KERNELS_CPU_PRODUCT_KERNELS_ONCE
namespace lockstep::kernels::cpu {

// Panels that share one pass over the packed x: their sums of 512 rows (64 KiB each) and a chunk of
// x (512 KiB) stay in L2 together.
constexpr int64_t kPanelGroup = 4;
// From this many rows on, expanding bf16 once beats expanding it in every tile.
constexpr int64_t kSlabRows = 43;

}  // namespace lockstep::kernels::cpu
#endif  // LOCKSTEP_KERNELS_CPU_PRODUCT_KERNELS_ONCE

HWY_BEFORE_NAMESPACE();
namespace lockstep::kernels::cpu {
namespace HWY_NAMESPACE {

template <typename W>
constexpr int kInterleaveOf = sizeof(W) == 2 ? static_cast<int>(kStreams) : 1;

template <typename W>
HWY_INLINE const W* PanelAs(const Panels& weights, int64_t p) {
  return reinterpret_cast<const W*>(weights.panel(p));
}

// Lines [k, k + depth) of packed weights, a whole chunk or the plain rest after the last one.
template <typename W>
HWY_INLINE void RunPacked(int64_t rows, const TileCall<W>& call) {
  if (call.depth == kChunk) {
    RunTile<1, 0, kInterleaveOf<W>>(rows, call);
  } else {
    RunTile<1, 0, 1>(rows, call);
  }
}

HWY_INLINE void CopyRows(const float* from, int64_t from_stride, int64_t rows, int64_t cols,
                         float* to, int64_t to_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    std::memcpy(to + r * to_stride, from + r * from_stride, cols * sizeof(float));
  }
}

// Whether panel p has all its 32 output features, so that a tile may store them to y.
HWY_INLINE bool IsWhole(const Panels& weights, int64_t p) {
  return (p + 1) * kPanelWidth <= weights.out_features;
}

// P whole panels at once, each its own streams from memory, for R rows.
template <int R, int P, typename W>
HWY_INLINE void RunStreams(const ProductJob& job, int64_t p) {
  const Panels& weights = job.weights;
  TileCall<W> call = {.x = job.x,
                      .panels = PanelAs<W>(weights, p),
                      .panel_stride = weights.in_features * kPanelWidth,
                      .depth = kChunk,
                      .start = nullptr,
                      .start_stride = job.y.stride,
                      .y = job.y.data + p * kPanelWidth,
                      .y_stride = job.y.stride};
  int64_t k = 0;
  for (; k + kChunk <= weights.in_features; k += kChunk) {
    RunTile<R, P, 0, kInterleaveOf<W>, W>(call);
    call.x += kChunk * R;
    call.panels += kChunk * kPanelWidth;
    call.start = call.y;
  }
  if (k == weights.in_features) return;
  call.depth = weights.in_features - k;
  RunTile<R, P, 0, 1, W>(call);
}

// All row tiles [tile_begin, tile_end) of panel p, straight from the packed weights: a chunk comes
// from memory for the first tile and from L1 for the others.
template <typename W>
void RunPanel(const ProductJob& job, int64_t p, int64_t tile_begin, int64_t tile_end,
              float* scratch) {
  const Panels& weights = job.weights;
  bool whole = IsWhole(weights, p);
  int64_t first_row = job.plan.tiles.begin(tile_begin);
  float* sums = whole ? job.y.row(first_row) + p * kPanelWidth : scratch;
  int64_t stride = whole ? job.y.stride : kPanelWidth;
  for (int64_t k = 0; k < weights.in_features; k += kChunk) {
    for (int64_t t = tile_begin; t < tile_end; ++t) {
      float* tile_sums = sums + (job.plan.tiles.begin(t) - first_row) * stride;
      int64_t rows = job.plan.tiles.size(t);
      RunPacked<W>(rows, {.x = job.x + job.plan.tiles.begin(t) * weights.in_features + k * rows,
                          .panels = PanelAs<W>(weights, p) + k * kPanelWidth,
                          .panel_stride = 0,
                          .depth = std::min(kChunk, weights.in_features - k),
                          .start = k == 0 ? nullptr : tile_sums,
                          .start_stride = stride,
                          .y = tile_sums,
                          .y_stride = stride});
    }
  }
  if (whole) return;
  CopyRows(scratch, kPanelWidth, job.plan.tiles.begin(tile_end) - first_row,
           weights.out_features - p * kPanelWidth, job.y.row(first_row) + p * kPanelWidth,
           job.y.stride);
}

// Up to six rows: as many panels at once as the accumulators allow. Returns the first panel not
// done.
template <int R, int P, typename W>
HWY_INLINE int64_t RunAllStreams(const ProductJob& job, int64_t begin, int64_t end) {
  int64_t p = begin;
  for (; p + P <= end && IsWhole(job.weights, p + P - 1); p += P) RunStreams<R, P, W>(job, p);
  return p;
}

template <typename W>
int64_t MultiplyFew(const ProductJob& job, int64_t begin, int64_t end) {
  constexpr bool kWide = kLanes == 16;
  int64_t rows = job.plan.tiles.rows;
  if (rows == 1) return RunAllStreams < 1, kWide ? 4 : 2, W > (job, begin, end);
  if constexpr (kWide) {
    if (rows == 2) return RunAllStreams<2, 4, W>(job, begin, end);
    if (rows == 3) return RunAllStreams<3, 4, W>(job, begin, end);
    if (rows == 4) return RunAllStreams<4, 2, W>(job, begin, end);
    if (rows == 5) return RunAllStreams<5, 2, W>(job, begin, end);
    if (rows == 6) return RunAllStreams<6, 2, W>(job, begin, end);
  }
  return begin;
}

// Row tiles of panel p that lie within units [begin, end).
struct TileRange {
  int64_t begin;
  int64_t end;
};
HWY_INLINE TileRange TilesOf(int64_t p, int64_t tiles, int64_t begin, int64_t end) {
  return {std::max<int64_t>(0, begin - p * tiles), std::min(tiles, end - p * tiles)};
}

template <typename W>
void MultiplyMedium(const ProductJob& job, int64_t begin, int64_t end, float* scratch) {
  int64_t tiles = job.plan.tiles.tiles;
  for (int64_t p = begin / tiles; p * tiles < end; ++p) {
    TileRange range = TilesOf(p, tiles, begin, end);
    RunPanel<W>(job, p, range.begin, range.end, scratch);
  }
}

// Lines of a panel as fp32 in order: fp32 panels are that already, bf16 ones are expanded.
HWY_INLINE const float* Slab(const float* lines, int64_t /*depth*/, float* /*scratch*/) {
  return lines;
}

HWY_INLINE const float* Slab(const uint16_t* lines, int64_t depth, float* scratch) {
  int64_t streams = depth == kChunk ? kStreams : 1;
  for (int64_t s = 0; s < streams; ++s) {
    for (int64_t i = 0; i < depth / streams; ++i) {
      VF w[kPanelVectors];
      LoadLine(lines + (s * kStreamLines + i) * kPanelWidth, w);
      float* to = scratch + (i * streams + s) * kPanelWidth;
      for (int v = 0; v < kPanelVectors; ++v) hn::Store(w[v], F32(), to + v * kLanes);
    }
  }
  return scratch;
}

// Panels of one register tile when there are many rows: six rows by two panels need fewer loads
// than fourteen by one.
constexpr int kManyPanels = kLanes == 16 ? 2 : 1;

// Many rows: chunk by chunk over a group of panels, the sums between chunks in contiguous scratch
// (spilling fp32 accumulators is exact), the last chunk's straight to y.
template <typename W>
class ManyRows {
 public:
  ManyRows(const ProductJob& job, int64_t begin, int64_t end, float* scratch)
      : job_(job),
        begin_(begin),
        end_(end),
        slab_(scratch),
        sums_(scratch + kManyPanels * kChunk * kPanelWidth) {}

  void Run() {
    int64_t tiles = job_.plan.tiles.tiles;
    last_column_ = (end_ + tiles - 1) / tiles;
    for (int64_t group = begin_ / tiles; group < last_column_; group += kGroup) {
      for (int64_t k = 0; k < job_.weights.in_features; k += kChunk) {
        for (int64_t u = group; u < GroupEnd(group); ++u) RunChunk(group, u, k);
      }
    }
  }

 private:
  // Columns of units that share one pass over x.
  static constexpr int64_t kGroup = kPanelGroup / kManyPanels;

  int64_t GroupEnd(int64_t group) const { return std::min(last_column_, group + kGroup); }
  int64_t Depth(int64_t k) const { return std::min(kChunk, job_.weights.in_features - k); }
  const W* Lines(int64_t p, int64_t k) const {
    return PanelAs<W>(job_.weights, p) + k * kPanelWidth;
  }

  // The chunk from k on of unit column u against its row tiles.
  void RunChunk(int64_t group, int64_t u, int64_t k) {
    int64_t p = u * kManyPanels;
    int64_t panels = std::min<int64_t>(kManyPanels, job_.weights.count() - p);
    const float* slab[kManyPanels] = {};
    for (int64_t i = 0; i < panels; ++i) {
      slab[i] = Slab(Lines(p + i, k), Depth(k), slab_ + i * kChunk * kPanelWidth);
    }
    float* sums = sums_ + (u - group) * job_.plan.tiles.rows * kManyPanels * kPanelWidth;
    TileRange range = TilesOf(u, job_.plan.tiles.tiles, begin_, end_);
    for (int64_t t = range.begin; t < range.end; ++t) {
      PrefetchAfter(group, u, k, t);
      float* tile_sums = sums + job_.plan.tiles.begin(t) * panels * kPanelWidth;
      if (panels == kManyPanels) {
        RunSlabTile<kManyPanels>(p, t, k, slab, tile_sums);
      } else {
        RunSlabTile<1>(p, t, k, slab, tile_sums);
      }
    }
  }

  // Asks for tile t's share of the lines that the RunChunk after this one begins with.
  void PrefetchAfter(int64_t group, int64_t u, int64_t k, int64_t t) const {
    if (++u == GroupEnd(group)) {
      k += kChunk;
      if (k < job_.weights.in_features) {
        u = group;
      } else if (u < last_column_) {
        k = 0;
      } else {
        return;
      }
    }
    int64_t tiles = job_.plan.tiles.tiles;
    int64_t bytes = Depth(k) * job_.weights.line_bytes();
    int64_t end = std::min(job_.weights.count(), (u + 1) * kManyPanels);
    for (int64_t p = u * kManyPanels; p < end; ++p) {
      const char* lines = reinterpret_cast<const char*>(Lines(p, k));
      for (int64_t at = bytes * t / tiles & ~int64_t{63}; at < bytes * (t + 1) / tiles; at += 64) {
        __builtin_prefetch(lines + at, 0, 2);
      }
    }
  }

  template <int P>
  void RunSlabTile(int64_t p, int64_t t, int64_t k, const float* const* slab, float* sums) {
    constexpr int64_t kWidth = P * kPanelWidth;
    int64_t first = job_.plan.tiles.begin(t);
    int64_t rows = job_.plan.tiles.size(t);
    bool last = k + Depth(k) == job_.weights.in_features;
    bool to_y = last && IsWhole(job_.weights, p + P - 1);
    float* y = job_.y.row(first) + p * kPanelWidth;
    RunTile<P, 0, 1, float>(rows, {.x = job_.x + first * job_.weights.in_features + k * rows,
                                   .panels = slab[0],
                                   .panel_stride = slab[P - 1] - slab[0],
                                   .depth = Depth(k),
                                   .start = k == 0 ? nullptr : sums,
                                   .start_stride = kWidth,
                                   .y = to_y ? y : sums,
                                   .y_stride = to_y ? job_.y.stride : kWidth});
    if (!last || to_y) return;
    CopyRows(sums, kWidth, rows, job_.weights.out_features - p * kPanelWidth, y, job_.y.stride);
  }

  const ProductJob& job_;
  const int64_t begin_;
  const int64_t end_;
  float* const slab_;
  float* const sums_;
  int64_t last_column_ = 0;
};

template <typename W>
void MultiplyTyped(const ProductJob& job, int64_t begin, int64_t end, float* scratch) {
  if (job.plan.through_slab) return ManyRows<W>(job, begin, end, scratch).Run();
  if (job.plan.tiles.tiles == 1) begin = MultiplyFew<W>(job, begin, end);
  MultiplyMedium<W>(job, begin, end, scratch);
}

void MultiplyUnitsImpl(const ProductJob& job, int64_t begin, int64_t end, float* scratch) {
  if (job.weights.storage == DType::kF32) return MultiplyTyped<float>(job, begin, end, scratch);
  MultiplyTyped<uint16_t>(job, begin, end, scratch);
}

ProductPlan PlanProductImpl(int64_t rows) {
  bool many = rows >= kSlabRows;
  int64_t tile_rows = many ? kTileRows<kManyPanels> : kTileRows<1>;
  return {.tiles = {rows, (rows + tile_rows - 1) / tile_rows},
          .unit_panels = many ? kManyPanels : 1,
          .through_slab = many};
}

#if HWY_TARGET != HWY_SCALAR
// Four rows by four columns, transposed.
HWY_INLINE void Transpose4x4(const float* x, int64_t stride, float* to, int64_t to_stride) {
  const hn::FixedTag<float, 4> d;
  const hn::Repartition<double, decltype(d)> pairs;
  const auto a = hn::LoadU(d, x);
  const auto b = hn::LoadU(d, x + stride);
  const auto c = hn::LoadU(d, x + 2 * stride);
  const auto e = hn::LoadU(d, x + 3 * stride);
  const auto ab_low = hn::BitCast(pairs, hn::InterleaveLower(d, a, b));
  const auto ab_high = hn::BitCast(pairs, hn::InterleaveUpper(d, a, b));
  const auto ce_low = hn::BitCast(pairs, hn::InterleaveLower(d, c, e));
  const auto ce_high = hn::BitCast(pairs, hn::InterleaveUpper(d, c, e));
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, ab_low, ce_low)), d, to);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, ab_low, ce_low)), d, to + to_stride);
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, ab_high, ce_high)), d, to + 2 * to_stride);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, ab_high, ce_high)), d, to + 3 * to_stride);
}

#endif

void PackTileImpl(const float* x, int64_t stride, int64_t rows, int64_t cols, float* packed) {
  int64_t k = 0;
#if HWY_TARGET != HWY_SCALAR
  for (; rows >= 4 && k + 4 <= cols; k += 4) {
    // The last group overlaps the one before when the rows are no multiple of four.
    for (int64_t r = 0; r < rows; r += 4) {
      int64_t from = std::min(r, rows - 4);
      Transpose4x4(x + from * stride + k, stride, packed + k * rows + from, rows);
    }
  }
#endif
  for (; k < cols; ++k) {
    for (int64_t r = 0; r < rows; ++r) packed[k * rows + r] = x[r * stride + k];
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lockstep::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lockstep::kernels::cpu {

HWY_EXPORT(MultiplyUnitsImpl);
HWY_EXPORT(PlanProductImpl);
HWY_EXPORT(PackTileImpl);

ProductPlan PlanProduct(int64_t rows) { return HWY_DYNAMIC_DISPATCH(PlanProductImpl)(rows); }

int64_t ProductScratchFloats(const ProductPlan& plan) {
  return (plan.unit_panels * kChunk + kPanelGroup * plan.tiles.rows) * kPanelWidth;
}

void MultiplyUnits(const ProductJob& job, int64_t begin, int64_t end, float* scratch) {
  HWY_DYNAMIC_DISPATCH(MultiplyUnitsImpl)(job, begin, end, scratch);
}

void PackTile(const float* x, int64_t stride, int64_t rows, int64_t cols, float* packed) {
  HWY_DYNAMIC_DISPATCH(PackTileImpl)(x, stride, rows, cols, packed);
}

}  // namespace lockstep::kernels::cpu
#endif  // HWY_ONCE
