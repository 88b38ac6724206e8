// OwnMatrix: panels in huge pages, x packed into row tiles, units shared out over the pool.
#include "kernels/cpu/own_product.h"

#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "glog/logging.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/pack.h"
#include "kernels/cpu/panels.h"
#include "kernels/cpu/product_kernels.h"
#include "kernels/cpu/scratch.h"
#include "kernels/memory.h"

namespace lockstep::kernels::cpu {
namespace {

// Rows multiplied at once; bounds the packed copy of x.
constexpr int64_t kRowChunk = 512;
// Below this many elements of x packing on one thread is quicker than waking the others.
constexpr int64_t kPackGrain = 32768;

class OwnMatrix : public PackedMatrix {
 public:
  OwnMatrix(int64_t out_features, int64_t in_features, DType storage, HugeBuffer buffer)
      : PackedMatrix(out_features, in_features, storage), buffer_(std::move(buffer)) {
    panels_ = {buffer_.data(), out_features, in_features, storage};
  }

  int64_t bytes() const override { return buffer_.mapped_bytes(); }

  absl::Status PackRows(int64_t out_begin, const WeightRows& rows, ThreadPool& pool) override {
    LOCKSTEP_RETURN_IF_ERROR(CheckFits(rows, out_begin, out_features(), in_features()));
    return PackIntoPanels(rows, out_begin, panels_, buffer_.data(), pool);
  }

  absl::Status Finish(ThreadPool& /*pool*/) override { return absl::OkStatus(); }

  void ReadRow(int64_t out_index, float* dst) const override {
    const std::byte* panel = panels_.panel(out_index / kPanelWidth);
    int64_t slot = panels_.slot(out_index % kPanelWidth);
    for (int64_t k = 0; k < in_features(); ++k) {
      dst[k] = LoadElement(panel, storage(), panels_.line(k) * kPanelWidth + slot);
    }
  }

  void Product(ConstMatrix x, Matrix y, ThreadPool& pool) const override {
    CHECK_EQ(x.cols, in_features());
    CHECK_EQ(y.cols, out_features());
    CHECK_EQ(x.rows, y.rows);
    for (int64_t r = 0; r < x.rows; r += kRowChunk) {
      int64_t end = std::min(x.rows, r + kRowChunk);
      ProductOfChunk(x.RowRange(r, end), y.RowRange(r, end), pool);
    }
  }

 private:
  void ProductOfChunk(ConstMatrix x, Matrix y, ThreadPool& pool) const {
    ProductPlan plan = PlanProduct(x.rows, in_features());
    ProductJob job = {panels_, PackX(x, plan, pool), plan, y};
    pool.ParallelForOnDemand(
        plan.units(panels_.count()), plan.unit_grain(), [&](int64_t begin, int64_t end) {
          thread_local Scratch scratch;
          int64_t bytes = ProductScratchFloats(plan) * static_cast<int64_t>(sizeof(float));
          MultiplyUnits(job, begin, end, scratch.Get(bytes));
        });
  }

  // x as the plan wants it: itself when it is one row, else a copy in the caller's scratch.
  const float* PackX(ConstMatrix x, const ProductPlan& plan, ThreadPool& pool) const {
    if (x.rows == 1) return x.data;
    thread_local Scratch scratch;
    float* packed = scratch.Get(x.rows * x.cols * static_cast<int64_t>(sizeof(float)));
    const RowTiles& tiles = plan.tiles;
    int64_t grain = std::max<int64_t>(1, kPackGrain * tiles.tiles / (x.rows * x.cols));
    pool.ParallelFor(tiles.tiles, grain, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        for (int64_t k = 0; k < x.cols; k += plan.x_depth) {
          PackTile(x.row(tiles.begin(t)) + k, x.stride, tiles.size(t), plan.depth(k),
                   packed + plan.x_offset(t, k));
        }
      }
    });
    return packed;
  }

  HugeBuffer buffer_;
  Panels panels_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<PackedMatrix>> CreateOwnMatrix(int64_t out_features,
                                                              int64_t in_features, DType storage) {
  Panels panels = {nullptr, out_features, in_features, storage};
  LOCKSTEP_ASSIGN_OR_RETURN(HugeBuffer buffer, HugeBuffer::Allocate(panels.bytes()));
  return std::make_unique<OwnMatrix>(out_features, in_features, storage, std::move(buffer));
}

}  // namespace lockstep::kernels::cpu
