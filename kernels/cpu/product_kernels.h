// The vector code of our own product, compiled once per instruction set and chosen at run time.
#ifndef LOCKSTEP_KERNELS_CPU_PRODUCT_KERNELS_H_
#define LOCKSTEP_KERNELS_CPU_PRODUCT_KERNELS_H_

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/panels.h"
#include "kernels/tensor.h"

namespace lockstep::kernels::cpu {

/// Rows cut into `tiles` nearly equal tiles, the larger ones first.
struct RowTiles {
  int64_t rows = 0;
  int64_t tiles = 0;
  // Not computed in begin(): a division costs as much as five rows of a tile.
  int64_t smaller = 0;
  int64_t larger_tiles = 0;

  RowTiles() = default;
  /// As few tiles as tile_rows allows. rows >= 1.
  RowTiles(int64_t rows_in, int64_t tile_rows)
      : rows(rows_in),
        tiles((rows_in + tile_rows - 1) / tile_rows),
        smaller(rows_in / tiles),
        larger_tiles(rows_in % tiles) {}

  int64_t begin(int64_t tile) const {
    return tile * smaller + (tile < larger_tiles ? tile : larger_tiles);
  }
  int64_t size(int64_t tile) const { return smaller + (tile < larger_tiles ? 1 : 0); }
};

/// How a product of some rows is cut: units of unit_panels panels by one row tile, panel-major.
///
/// x is packed in blocks of x_depth input features (the last may be shallower), each block tile by
/// tile, each tile [depth][rows of the tile]: what is multiplied together lies together. One row
/// in one block is therefore just itself.
struct ProductPlan {
  RowTiles tiles;
  int64_t in_features = 0;
  int64_t x_depth = 0;
  int64_t unit_panels = 1;
  /// Whether bf16 is expanded once for all row tiles.
  bool through_slab = false;

  int64_t units(int64_t panels) const {
    return (panels + unit_panels - 1) / unit_panels * tiles.tiles;
  }
  /// Units that are best done together: panels that are streamed side by side, or all row tiles of
  /// a panel, for which it is expanded once.
  int64_t unit_grain() const { return tiles.tiles == 1 ? 4 : tiles.tiles; }
  /// Input features of the block that begins at k.
  int64_t depth(int64_t k) const { return std::min(x_depth, in_features - k); }
  /// Where tile `tile` of the block that begins at k stands in the packed x.
  int64_t x_offset(int64_t tile, int64_t k) const {
    return k * tiles.rows + tiles.begin(tile) * depth(k);
  }
};

/// The quickest plan of the chosen instruction set. rows >= 1.
ProductPlan PlanProduct(int64_t rows, int64_t in_features);

/// One product: y = x Wᵀ with x packed as the plan says.
struct ProductJob {
  Panels weights;
  const float* x = nullptr;
  ProductPlan plan;
  Matrix y;
};

/// Writes rows [0, rows) of x, one tile of one block, as [cols][rows].
void PackTile(const float* x, int64_t stride, int64_t rows, int64_t cols, float* packed);

/// Scratch of MultiplyUnits, in floats.
int64_t ProductScratchFloats(const ProductPlan& plan);

/// Computes units [begin, end) of the plan. Each element of y is one
/// chain of fused multiply-adds over ascending input features, whatever the tiling. scratch:
/// ProductScratchFloats, 64-byte aligned.
void MultiplyUnits(const ProductJob& job, int64_t begin, int64_t end, float* scratch);

}  // namespace lockstep::kernels::cpu

#endif  // LOCKSTEP_KERNELS_CPU_PRODUCT_KERNELS_H_
