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

HWY_BEFORE_NAMESPACE();
namespace lockstep::kernels::cpu {
namespace HWY_NAMESPACE {

// Input features per pass over the rows: a slab of 256 x 32 fp32 takes 32 KiB.
constexpr int64_t kDepth = 256;
// Panels that share one pass over the packed x, which stays in L2 meanwhile.
constexpr int64_t kPanelGroup = 16;
// From this many row tiles on, expanding bf16 once beats expanding it in every tile.
constexpr int64_t kSlabTiles = 4;

template <typename W>
struct TileCall {
  const float* x;
  const W* panels;
  int64_t panel_stride;
  int64_t depth;
  float* y;
  int64_t y_stride;
  bool accumulate;
};

template <int R, int P, int kPrefetch, typename W>
HWY_NOINLINE void RunTile(const TileCall<W>& c) {
  Tile<R, P, 0, kPrefetch, W>(c.x, c.panels, c.panel_stride, c.depth, c.y, c.y_stride,
                              c.accumulate);
}

// One panel, 1 .. kMaxRows rows.
template <int kPrefetch, typename W, int... kRowsMinus1>
HWY_INLINE void RunRows(int64_t rows, const TileCall<W>& call,
                        std::integer_sequence<int, kRowsMinus1...>) {
  using Function = void (*)(const TileCall<W>&);
  static constexpr Function kTable[] = {&RunTile<kRowsMinus1 + 1, 1, kPrefetch, W>...};
  kTable[rows - 1](call);
}

template <int kPrefetch, typename W>
HWY_INLINE void RunPanel(int64_t rows, const TileCall<W>& call) {
  RunRows<kPrefetch>(rows, call, std::make_integer_sequence<int, kMaxRows>());
}

// A tile of the last, narrower panel goes through a 32-wide copy.
template <int kPrefetch, typename W>
void RunEdge(int64_t rows, int64_t cols, TileCall<W> call) {
  alignas(64) float copy[kMaxRows * 32] = {};
  float* y = call.y;
  int64_t y_stride = call.y_stride;
  if (call.accumulate) {
    for (int64_t r = 0; r < rows; ++r) std::memcpy(copy + r * 32, y + r * y_stride, cols * 4);
  }
  call.y = copy;
  call.y_stride = 32;
  RunPanel<kPrefetch>(rows, call);
  for (int64_t r = 0; r < rows; ++r) std::memcpy(y + r * y_stride, copy + r * 32, cols * 4);
}

// Tile t against panel p's rows [k, k + depth), which begin at w.
template <int kPrefetch, typename W>
HWY_INLINE void RunUnit(const ProductJob& job, int64_t p, int64_t t, const W* w, int64_t k,
                        int64_t depth) {
  int64_t first = job.tiles.begin(t);
  int64_t rows = job.tiles.size(t);
  TileCall<W> call = {.x = job.x + first * job.weights.in_features + k * rows,
                      .panels = w,
                      .panel_stride = 0,
                      .depth = depth,
                      .y = job.y.row(first) + p * 32,
                      .y_stride = job.y.stride,
                      .accumulate = k > 0};
  int64_t cols = job.weights.out_features - p * 32;
  if (cols >= 32) {
    RunPanel<kPrefetch>(rows, call);
  } else {
    RunEdge<kPrefetch>(rows, cols, call);
  }
}

constexpr int kStreamAhead = 1024;

// Few rows: as many panels at once as the accumulators allow, each its own stream from memory.
template <int R, int P, typename W>
HWY_INLINE int64_t RunStreams(const ProductJob& job, int64_t begin, int64_t end) {
  int64_t full = job.weights.out_features / 32;
  int64_t p = begin;
  for (; p + P <= std::min(end, full); p += P) {
    TileCall<W> call = {.x = job.x,
                        .panels = reinterpret_cast<const W*>(job.weights.panel(p)),
                        .panel_stride = job.weights.in_features * 32,
                        .depth = job.weights.in_features,
                        .y = job.y.data + p * 32,
                        .y_stride = job.y.stride,
                        .accumulate = false};
    RunTile<R, P, kStreamAhead, W>(call);
  }
  return p;
}

template <typename W>
void MultiplyFew(const ProductJob& job, int64_t begin, int64_t end) {
  int64_t p = begin;
  switch (job.tiles.rows) {
    case 1:
      p = RunStreams < 1, kLanes == 16 ? 4 : 2, W > (job, begin, end);
      break;
    case 2:
      if constexpr (kLanes == 16) p = RunStreams<2, 4, W>(job, begin, end);
      break;
    case 3:
      if constexpr (kLanes == 16) p = RunStreams<3, 4, W>(job, begin, end);
      break;
    case 4:
      if constexpr (kLanes == 16) p = RunStreams<4, 2, W>(job, begin, end);
      break;
    case 5:
      if constexpr (kLanes == 16) p = RunStreams<5, 2, W>(job, begin, end);
      break;
    case 6:
      if constexpr (kLanes == 16) p = RunStreams<6, 2, W>(job, begin, end);
      break;
    default:
      break;
  }
  for (; p < end; ++p) {
    RunUnit<kStreamAhead>(job, p, 0, reinterpret_cast<const W*>(job.weights.panel(p)), 0,
                          job.weights.in_features);
  }
}

// Row tiles of panel p that lie within units [begin, end).
struct TileRange {
  int64_t begin;
  int64_t end;
};
HWY_INLINE TileRange TilesOf(int64_t p, int64_t tiles, int64_t begin, int64_t end) {
  return {std::max<int64_t>(0, begin - p * tiles), std::min(tiles, end - p * tiles)};
}

// A medium number of rows: a panel comes from memory with the first tile and from L2 after.
template <typename W>
void MultiplyMedium(const ProductJob& job, int64_t begin, int64_t end) {
  int64_t tiles = job.tiles.tiles;
  for (int64_t p = begin / tiles; p * tiles < end; ++p) {
    TileRange range = TilesOf(p, tiles, begin, end);
    for (int64_t t = range.begin; t < range.end; ++t) {
      RunUnit<0>(job, p, t, reinterpret_cast<const W*>(job.weights.panel(p)), 0,
                 job.weights.in_features);
    }
  }
}

HWY_INLINE const float* Slab(const float* panel, int64_t /*depth*/, float* /*scratch*/) {
  return panel;
}

HWY_INLINE const float* Slab(const uint16_t* panel, int64_t depth, float* scratch) {
  for (int64_t k = 0; k < depth; ++k) {
    VF w[kPanelVectors];
    LoadPanelRow(panel + k * 32, w);
    for (int v = 0; v < kPanelVectors; ++v) {
      hn::Store(w[v], F32(), scratch + k * 32 + v * kLanes);
    }
  }
  return scratch;
}

// Many rows: slab by slab, accumulators spilled to y between slabs (which is exact).
template <typename W>
void MultiplyMany(const ProductJob& job, int64_t begin, int64_t end) {
  alignas(64) float scratch[kDepth * 32];
  int64_t tiles = job.tiles.tiles;
  int64_t last_panel = (end + tiles - 1) / tiles;
  for (int64_t group = begin / tiles; group < last_panel; group += kPanelGroup) {
    int64_t group_end = std::min(last_panel, group + kPanelGroup);
    for (int64_t k = 0; k < job.weights.in_features; k += kDepth) {
      int64_t depth = std::min(kDepth, job.weights.in_features - k);
      for (int64_t p = group; p < group_end; ++p) {
        const W* panel = reinterpret_cast<const W*>(job.weights.panel(p)) + k * 32;
        const float* slab = Slab(panel, depth, scratch);
        TileRange range = TilesOf(p, tiles, begin, end);
        for (int64_t t = range.begin; t < range.end; ++t) RunUnit<0>(job, p, t, slab, k, depth);
      }
    }
  }
}

template <typename W>
void MultiplyTyped(const ProductJob& job, int64_t begin, int64_t end) {
  if (job.tiles.tiles == 1) return MultiplyFew<W>(job, begin, end);
  if (job.tiles.tiles < kSlabTiles) return MultiplyMedium<W>(job, begin, end);
  MultiplyMany<W>(job, begin, end);
}

void MultiplyUnitsImpl(const ProductJob& job, int64_t begin, int64_t end) {
  if (job.weights.storage == DType::kF32) return MultiplyTyped<float>(job, begin, end);
  MultiplyTyped<uint16_t>(job, begin, end);
}

int MaxTileRowsImpl() { return kMaxRows; }

}  // namespace HWY_NAMESPACE
}  // namespace lockstep::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lockstep::kernels::cpu {

HWY_EXPORT(MultiplyUnitsImpl);
HWY_EXPORT(MaxTileRowsImpl);

int MaxTileRows() { return HWY_DYNAMIC_DISPATCH(MaxTileRowsImpl)(); }

void MultiplyUnits(const ProductJob& job, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(MultiplyUnitsImpl)(job, begin, end);
}

void PackTile(const float* x, int64_t stride, int64_t rows, int64_t cols, float* packed) {
  for (int64_t k = 0; k < cols; ++k) {
    for (int64_t r = 0; r < rows; ++r) packed[k * rows + r] = x[r * stride + k];
  }
}

}  // namespace lockstep::kernels::cpu
#endif  // HWY_ONCE
