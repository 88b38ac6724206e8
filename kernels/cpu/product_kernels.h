// The vector code of our own product, compiled once per instruction set and chosen at run time.
#ifndef LOCKSTEP_KERNELS_CPU_PRODUCT_KERNELS_H_
#define LOCKSTEP_KERNELS_CPU_PRODUCT_KERNELS_H_

#include <cstdint>

#include "kernels/cpu/panels.h"
#include "kernels/tensor.h"

namespace lockstep::kernels::cpu {

/// Rows cut into `tiles` nearly equal tiles, each small enough for the registers.
struct RowTiles {
  int64_t rows = 0;
  int64_t tiles = 0;

  int64_t begin(int64_t tile) const { return rows * tile / tiles; }
  int64_t size(int64_t tile) const { return begin(tile + 1) - begin(tile); }
};

/// How a product of some rows is cut: units of unit_panels panels by one row tile, panel-major.
struct ProductPlan {
  RowTiles tiles;
  int64_t unit_panels = 1;
  /// Whether bf16 is expanded once for all row tiles.
  bool through_slab = false;

  int64_t units(int64_t panels) const {
    return (panels + unit_panels - 1) / unit_panels * tiles.tiles;
  }
};

/// The quickest plan of the chosen instruction set. rows >= 1.
ProductPlan PlanProduct(int64_t rows);

/// One product: y = x Wᵀ with x in tiles. Tile t of `x` begins at x + begin(t) * in_features and is
/// [in_features][size(t)]; one row alone is therefore just itself.
struct ProductJob {
  Panels weights;
  const float* x = nullptr;
  ProductPlan plan;
  Matrix y;
};

/// Writes rows [0, rows) of x, a tile, as [cols][rows].
void PackTile(const float* x, int64_t stride, int64_t rows, int64_t cols, float* packed);

/// Scratch of MultiplyUnits, in floats.
int64_t ProductScratchFloats(const ProductPlan& plan);

/// Computes units [begin, end) of the plan. Each element of y is one
/// chain of fused multiply-adds over ascending input features, whatever the tiling. scratch:
/// ProductScratchFloats, 64-byte aligned.
void MultiplyUnits(const ProductJob& job, int64_t begin, int64_t end, float* scratch);

}  // namespace lockstep::kernels::cpu

#endif  // LOCKSTEP_KERNELS_CPU_PRODUCT_KERNELS_H_
