// Shares the panels out over the pool; whole blocks go to the vector code, edges go by element.
#include "kernels/cpu/pack.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/pack_kernels.h"

namespace lockstep::kernels::cpu {
namespace {

// The part of one panel that a call fills: lanes [lane_begin, lane_begin + rows) from source rows
// [source_row, source_row + rows).
struct Slice {
  int64_t panel;
  int64_t lane_begin;
  int64_t rows;
  int64_t source_row;
};

class PanelPacker {
 public:
  PanelPacker(const WeightRows& source, const Panels& panels, std::byte* data)
      : source_(source), panels_(panels), data_(data) {}

  /// False when a value is not finite.
  bool Pack(const Slice& slice) const {
    std::byte* panel = data_ + slice.panel * panels_.panel_bytes();
    const std::byte* from = source_.data + slice.source_row * source_.stride_bytes;
    bool finite = true;
    int64_t k = 0;
    if (slice.rows == kPanelWidth) {
      for (; k + kPackColumns <= source_.cols; k += kPackColumns) {
        finite &= PackBlock(from, source_.stride_bytes, source_.dtype, k, panels_, panel);
      }
    }
    return PackEdge(slice, from, k, panel) && finite;
  }

 private:
  // Element by element: another thread may be writing this panel's other lanes.
  bool PackEdge(const Slice& slice, const std::byte* from, int64_t first, std::byte* panel) const {
    bool finite = true;
    for (int64_t r = 0; r < slice.rows; ++r, from += source_.stride_bytes) {
      int64_t slot = panels_.slot(slice.lane_begin + r);
      for (int64_t k = first; k < source_.cols; ++k) {
        float value = LoadElement(from, source_.dtype, k);
        finite &= StoreElement(value, panels_.storage, panel, panels_.line(k) * kPanelWidth + slot);
      }
    }
    return finite;
  }

  const WeightRows& source_;
  const Panels& panels_;
  std::byte* data_;
};

// Panel `index` of those that [out_begin, out_begin + rows) touches.
Slice SliceOf(int64_t index, int64_t out_begin, int64_t rows) {
  int64_t panel = out_begin / kPanelWidth + index;
  int64_t begin = std::max(out_begin, panel * kPanelWidth);
  int64_t end = std::min(out_begin + rows, (panel + 1) * kPanelWidth);
  return {panel, begin - panel * kPanelWidth, end - begin, begin - out_begin};
}

}  // namespace

absl::Status CheckFits(const WeightRows& rows, int64_t out_begin, int64_t out_features,
                       int64_t in_features) {
  if (rows.cols == in_features && out_begin >= 0 && rows.rows >= 0 &&
      out_begin + rows.rows <= out_features) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("rows [", out_begin, ", ", out_begin + rows.rows, ") of ", rows.cols,
                   " columns do not fit a weight of ", out_features, " x ", in_features));
}

absl::Status NotFinite(const WeightRows& rows, DType storage, int64_t first_row) {
  for (int64_t r = first_row; r < rows.rows; ++r) {
    for (int64_t c = 0; c < rows.cols; ++c) {
      float value = LoadElement(rows.data + r * rows.stride_bytes, rows.dtype, c);
      if (IsFiniteAs(storage, value)) continue;
      return absl::DataLossError(absl::StrCat("weight at row ", r, ", column ", c, " is ", value,
                                              " in ", std::string(Name(storage)),
                                              ", not a finite number"));
    }
  }
  return absl::DataLossError("a weight is not finite");
}

absl::Status PackIntoPanels(const WeightRows& rows, int64_t out_begin, const Panels& panels,
                            std::byte* data, ThreadPool& pool) {
  if (rows.rows == 0) return absl::OkStatus();
  PanelPacker packer(rows, panels, data);
  int64_t touched =
      (out_begin + rows.rows + kPanelWidth - 1) / kPanelWidth - out_begin / kPanelWidth;
  std::atomic<int64_t> bad_row{std::numeric_limits<int64_t>::max()};
  pool.ParallelFor(touched, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      Slice slice = SliceOf(i, out_begin, rows.rows);
      if (packer.Pack(slice)) continue;
      int64_t lowest = bad_row.load();
      while (slice.source_row < lowest &&
             !bad_row.compare_exchange_weak(lowest, slice.source_row)) {
      }
    }
  });
  if (bad_row.load() == std::numeric_limits<int64_t>::max()) return absl::OkStatus();
  return NotFinite(rows, panels.storage, bad_row.load());
}

}  // namespace lockstep::kernels::cpu
