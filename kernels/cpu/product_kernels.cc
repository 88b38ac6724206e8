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

// Input features per slab: two panels of 128 x 32 fp32 stay in L1 under a tile's rows.
constexpr int64_t kSlabDepth = 128;
static_assert(kChunk % kSlabDepth == 0);
// Panels that share one pass over the packed x: their sums of 512 rows (64 KiB each) and a slab's
// depth of x (256 KiB) stay in L2 together.
constexpr int64_t kPanelGroup = 4;
// From this many rows on, expanding bf16 once beats expanding it in every tile.
constexpr int64_t kSlabRows = 49;

}  // namespace lockstep::kernels::cpu
#endif  // LOCKSTEP_KERNELS_CPU_PRODUCT_KERNELS_ONCE

HWY_BEFORE_NAMESPACE();
namespace lockstep::kernels::cpu {
namespace HWY_NAMESPACE {

template <typename W>
constexpr int kInterleaveOf = sizeof(W) == 2 ? static_cast<int>(kStreams) : 1;

// Panels of one stream are read well enough as they are.
template <typename W, Prefetch kWanted>
constexpr Prefetch kPrefetchOf = kInterleaveOf<W> > 1 ? kWanted : Prefetch::kNone;

template <typename W>
HWY_INLINE const W* PanelAs(const Panels& weights, int64_t p) {
  return reinterpret_cast<const W*>(weights.panel(p));
}

// Lines [k, k + depth) of packed weights, a whole chunk or the plain rest after the last one.
template <typename W>
HWY_INLINE void RunPacked(int64_t rows, const TileCall<W>& call) {
  if (call.depth != kChunk) {
    RunTile<1, 0, 1, W>(rows, call);
  } else if (call.upcoming != nullptr) {
    RunTile<1, 0, kInterleaveOf<W>, W, kPrefetchOf<W, Prefetch::kUpcoming>>(rows, call);
  } else {
    RunTile<1, 0, kInterleaveOf<W>, W>(rows, call);
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
    call.upcoming = k + 2 * kChunk <= weights.in_features
                        ? call.panels + kChunk * kPanelWidth
                        : PanelAs<W>(weights, p) + P * call.panel_stride;
    RunTile<R, P, 0, kInterleaveOf<W>, W, kPrefetchOf<W, Prefetch::kAhead>>(call);
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
  // While one tile is multiplied the next chunk (of this panel or the next, which lies behind it)
  // is asked for: the second tile, which reads nothing from memory itself, or the only one.
  int64_t asking = std::min(tile_begin + 1, tile_end - 1);
  for (int64_t k = 0; k < weights.in_features; k += kChunk) {
    const W* lines = PanelAs<W>(weights, p) + k * kPanelWidth;
    for (int64_t t = tile_begin; t < tile_end; ++t) {
      float* tile_sums = sums + (job.plan.tiles.begin(t) - first_row) * stride;
      int64_t rows = job.plan.tiles.size(t);
      RunPacked<W>(rows, {.x = job.x + job.plan.x_offset(t, 0) + k * rows,
                          .panels = lines,
                          .panel_stride = 0,
                          .depth = std::min(kChunk, weights.in_features - k),
                          .start = k == 0 ? nullptr : tile_sums,
                          .start_stride = stride,
                          .y = tile_sums,
                          .y_stride = stride,
                          .upcoming = t == asking ? lines + kChunk * kPanelWidth : nullptr});
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
HWY_INLINE const float* Slab(const Panels& weights, const float* panel, int64_t k,
                             int64_t /*depth*/, float* /*scratch*/) {
  return panel + k * kPanelWidth;
}

HWY_INLINE const float* Slab(const Panels& weights, const uint16_t* panel, int64_t k, int64_t depth,
                             float* scratch) {
  bool in_streams = k / kChunk * kChunk + kChunk <= weights.in_features;
  int64_t streams = in_streams ? kStreams : 1;
  for (int64_t s = 0; s < streams; ++s) {
    const uint16_t* lines = panel + weights.line(k + s) * kPanelWidth;
    for (int64_t i = 0; i < depth / streams; ++i) {
      VF w[kPanelVectors];
      LoadLine(lines + i * kPanelWidth, w);
      float* to = scratch + (i * streams + s) * kPanelWidth;
      for (int v = 0; v < kPanelVectors; ++v) hn::Store(w[v], F32(), to + v * kLanes);
    }
  }
  return scratch;
}

// Panels of one register tile when there are many rows: six rows by two panels need fewer loads
// than fourteen by one.
constexpr int kManyPanels = kLanes == 16 ? 2 : 1;

// The chunk of packed lines that is wanted next: each tile asks for a share of it.
struct Upcoming {
  const char* at = nullptr;
  const char* end = nullptr;
  int64_t share = 0;        // bytes per tile, whole cache lines
  int64_t panels = 0;       // this many panels from `at` on
  int64_t panel_bytes = 0;  // apart

  HWY_INLINE void Prefetch() {
    const char* until = std::min(end, at + share);
    for (; at < until; at += 64) {
      for (int64_t i = 0; i < panels; ++i) __builtin_prefetch(at + i * panel_bytes, 0, 2);
    }
  }
};

// Tiles of equal size, one after the other.
struct EqualTiles {
  TileCall<float> call;  // the first
  int64_t tiles;
  int64_t x_step;
  int64_t start_step;
  int64_t y_step;
};

template <int R, int P>
HWY_NOINLINE void RunEqualOf(EqualTiles& run, Upcoming& next) {
  for (; run.tiles > 0; --run.tiles) {
    next.Prefetch();
    Tile<R, P, 0, 1, float>(run.call);
    run.call.x += run.x_step;
    run.call.start += run.start_step;
    run.call.y += run.y_step;
  }
}

template <int P, int... kRowsMinus1>
HWY_INLINE void RunEqualIn(EqualTiles& run, int64_t rows, Upcoming& next,
                           std::integer_sequence<int, kRowsMinus1...>) {
  using Function = void (*)(EqualTiles&, Upcoming&);
  static constexpr Function kTable[] = {&RunEqualOf<kRowsMinus1 + 1, P>...};
  kTable[rows - 1](run, next);
}

template <int P>
HWY_INLINE void RunEqual(EqualTiles run, int64_t rows, Upcoming& next) {
  RunEqualIn<P>(run, rows, next, std::make_integer_sequence<int, kTileRows<kManyPanels>>());
}

// Many rows: slab by slab over a group of panels, the sums between slabs in contiguous scratch
// (spilling fp32 accumulators is exact), the last slab's straight to y.
template <typename W>
class ManyRows {
 public:
  ManyRows(const ProductJob& job, int64_t begin, int64_t end, float* scratch)
      : job_(job),
        begin_(begin),
        end_(end),
        slab_(scratch),
        sums_(scratch + kManyPanels * kSlabDepth * kPanelWidth) {}

  void Run() {
    int64_t tiles = job_.plan.tiles.tiles;
    last_column_ = (end_ + tiles - 1) / tiles;
    int64_t lines = kChunk * job_.weights.line_bytes() / 64;
    prefetch_share_ = (lines + tiles - 1) / tiles * 64;
    for (int64_t group = begin_ / tiles; group < last_column_; group += kGroup) {
      for (int64_t k = 0; k < job_.weights.in_features; k += kSlabDepth) {
        for (int64_t u = group; u < GroupEnd(group); ++u) RunSlab(group, u, k);
      }
    }
  }

 private:
  // Columns of units that share one pass over x.
  static constexpr int64_t kGroup = kPanelGroup / kManyPanels;

  int64_t GroupEnd(int64_t group) const { return std::min(last_column_, group + kGroup); }
  int64_t Depth(int64_t k) const { return job_.plan.depth(k); }

  // The slab from k on of unit column u against its row tiles.
  void RunSlab(int64_t group, int64_t u, int64_t k) {
    int64_t p = u * kManyPanels;
    int64_t panels = std::min<int64_t>(kManyPanels, job_.weights.count() - p);
    const float* slab[kManyPanels] = {};
    for (int64_t i = 0; i < panels; ++i) {
      slab[i] = Slab(job_.weights, PanelAs<W>(job_.weights, p + i), k, Depth(k),
                     slab_ + i * kSlabDepth * kPanelWidth);
    }
    float* sums = sums_ + (u - group) * job_.plan.tiles.rows * kManyPanels * kPanelWidth;
    Upcoming next = After(group, u, k);
    TileRange range = TilesOf(u, job_.plan.tiles.tiles, begin_, end_);
    if (panels == kManyPanels) {
      RunRange<kManyPanels>(p, range, k, slab, sums, next);
    } else {
      RunRange<1>(p, range, k, slab, sums, next);
    }
  }

  // What the RunSlab after (group, u, k) begins, if it begins a chunk.
  Upcoming After(int64_t group, int64_t u, int64_t k) const {
    if (++u == GroupEnd(group)) {
      k += kSlabDepth;
      if (k < job_.weights.in_features) {
        u = group;
      } else {
        k = 0;
      }
    }
    if (u == last_column_ || k % kChunk != 0) return {};
    const Panels& weights = job_.weights;
    int64_t p = u * kManyPanels;
    const char* at = reinterpret_cast<const char*>(weights.panel(p)) + k * weights.line_bytes();
    return {.at = at,
            .end = at + std::min(kChunk, weights.in_features - k) * weights.line_bytes(),
            .share = prefetch_share_,
            .panels = std::min<int64_t>(kManyPanels, weights.count() - p),
            .panel_bytes = weights.panel_bytes()};
  }

  // Tiles of a range are of two sizes at most, the larger first.
  template <int P>
  void RunRange(int64_t p, TileRange range, int64_t k, const float* const* slab, float* sums,
                Upcoming& next) {
    int64_t border = std::clamp(job_.plan.tiles.larger_tiles, range.begin, range.end);
    RunEqualTiles<P>(p, {range.begin, border}, k, slab, sums, next);
    RunEqualTiles<P>(p, {border, range.end}, k, slab, sums, next);
  }

  template <int P>
  void RunEqualTiles(int64_t p, TileRange range, int64_t k, const float* const* slab, float* sums,
                     Upcoming& next) {
    if (range.begin == range.end) return;
    constexpr int64_t kWidth = P * kPanelWidth;
    const RowTiles& tiles = job_.plan.tiles;
    int64_t first = tiles.begin(range.begin);
    int64_t rows = tiles.size(range.begin);
    sums += first * kWidth;
    float* y = job_.y.row(first) + p * kPanelWidth;
    bool last = k + Depth(k) == job_.weights.in_features;
    bool to_y = last && IsWhole(job_.weights, p + P - 1);
    int64_t y_stride = to_y ? job_.y.stride : kWidth;
    RunEqual<P>({.call = {.x = job_.x + job_.plan.x_offset(range.begin, k),
                          .panels = slab[0],
                          .panel_stride = slab[P - 1] - slab[0],
                          .depth = Depth(k),
                          .start = k == 0 ? nullptr : sums,
                          .start_stride = kWidth,
                          .y = to_y ? y : sums,
                          .y_stride = y_stride},
                 .tiles = range.end - range.begin,
                 .x_step = rows * Depth(k),
                 .start_step = k == 0 ? 0 : rows * kWidth,
                 .y_step = rows * y_stride},
                rows, next);
    if (!last || to_y) return;
    CopyRows(sums, kWidth, rows * (range.end - range.begin),
             job_.weights.out_features - p * kPanelWidth, y, job_.y.stride);
  }

  const ProductJob& job_;
  const int64_t begin_;
  const int64_t end_;
  float* const slab_;
  float* const sums_;
  int64_t last_column_ = 0;
  int64_t prefetch_share_ = 0;
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

ProductPlan PlanProductImpl(int64_t rows, int64_t in_features) {
  bool many = rows >= kSlabRows;
  int64_t tile_rows = many ? kTileRows<kManyPanels> : kTileRows<1>;
  return {.tiles = RowTiles(rows, tile_rows),
          .in_features = in_features,
          .x_depth = many ? kSlabDepth : in_features,
          .unit_panels = many ? kManyPanels : 1,
          .through_slab = many};
}

void PackTileImpl(const float* x, int64_t stride, int64_t rows, int64_t cols, float* packed) {
  TransposeTo(x, stride, rows, cols, packed);
}

}  // namespace HWY_NAMESPACE
}  // namespace lockstep::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lockstep::kernels::cpu {

HWY_EXPORT(MultiplyUnitsImpl);
HWY_EXPORT(PlanProductImpl);
HWY_EXPORT(PackTileImpl);

ProductPlan PlanProduct(int64_t rows, int64_t in_features) {
  return HWY_DYNAMIC_DISPATCH(PlanProductImpl)(rows, in_features);
}

int64_t ProductScratchFloats(const ProductPlan& plan) {
  return (plan.unit_panels * kSlabDepth + kPanelGroup * plan.tiles.rows) * kPanelWidth;
}

void MultiplyUnits(const ProductJob& job, int64_t begin, int64_t end, float* scratch) {
  HWY_DYNAMIC_DISPATCH(MultiplyUnitsImpl)(job, begin, end, scratch);
}

void PackTile(const float* x, int64_t stride, int64_t rows, int64_t cols, float* packed) {
  HWY_DYNAMIC_DISPATCH(PackTileImpl)(x, stride, rows, cols, packed);
}

}  // namespace lockstep::kernels::cpu
#endif  // HWY_ONCE
