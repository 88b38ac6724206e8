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

/// One product: y = x Wᵀ with x in tiles. Tile t of `x` begins at x + begin(t) * in_features and is
/// [in_features][size(t)]; one row alone is therefore just itself.
struct ProductJob {
  Panels weights;
  const float* x = nullptr;
  RowTiles tiles;
  Matrix y;
};

/// The largest row tile of the chosen instruction set.
int MaxTileRows();

/// Writes rows [0, rows) of x, a tile, as [cols][rows].
void PackTile(const float* x, int64_t stride, int64_t rows, int64_t cols, float* packed);

/// Scratch of MultiplyUnits, in floats.
int64_t ProductScratchFloats(const RowTiles& tiles);

/// Computes units [begin, end) of panel-major (panel, row tile) pairs. Each element of y is one
/// chain of fused multiply-adds over ascending input features, whatever the tiling. scratch:
/// ProductScratchFloats, 64-byte aligned.
void MultiplyUnits(const ProductJob& job, int64_t begin, int64_t end, float* scratch);

}  // namespace lockstep::kernels::cpu

#endif  // LOCKSTEP_KERNELS_CPU_PRODUCT_KERNELS_H_
