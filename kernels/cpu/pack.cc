// Packing: 32 rows x 32 columns at a time, staged in L1 in the storage type, then transposed.
#include "kernels/cpu/pack.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/convert.h"

namespace lockstep::kernels::cpu {
namespace {

// Columns staged at once: one cache line of each bf16 source row.
constexpr int64_t kColumns = 32;

// The part of one panel that a call fills: lanes [lane_begin, lane_begin + rows) from source rows
// [source_row, source_row + rows).
struct Slice {
  int64_t panel;
  int64_t lane_begin;
  int64_t rows;
  int64_t source_row;
};

template <typename T>
class PanelPacker {
 public:
  PanelPacker(const WeightRows& source, const Panels& panels, std::byte* data)
      : source_(source), panels_(panels), data_(data) {}

  /// False when a value is not finite.
  bool Pack(const Slice& slice) const {
    alignas(64) T stage[kPanelWidth][kColumns];
    T* to = reinterpret_cast<T*>(data_ + slice.panel * panels_.panel_bytes());
    bool finite = true;
    for (int64_t k = 0; k < source_.cols; k += kColumns) {
      int64_t cols = std::min(kColumns, source_.cols - k);
      for (int64_t r = 0; r < slice.rows; ++r) {
        const std::byte* from = source_.data + (slice.source_row + r) * source_.stride_bytes +
                                k * static_cast<int64_t>(SizeOf(source_.dtype));
        ConvertRun(from, source_.dtype, cols, stage[r]);
        finite &= AllFinite(stage[r], cols);
      }
      Scatter(stage, slice, k, cols, to);
    }
    return finite;
  }

 private:
  void Scatter(const T (&stage)[kPanelWidth][kColumns], const Slice& slice, int64_t first,
               int64_t cols, T* to) const {
    int64_t slots[kPanelWidth];
    for (int64_t r = 0; r < slice.rows; ++r) {
      slots[r] = panels_.slot(slice.lane_begin + r);
    }
    for (int64_t k = 0; k < cols; ++k) {
      T* line = to + panels_.line(first + k) * kPanelWidth;
      for (int64_t r = 0; r < slice.rows; ++r) line[slots[r]] = stage[r][k];
    }
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

absl::Status NotFinite(const WeightRows& rows, DType storage, int64_t first_row) {
  for (int64_t r = first_row; r < rows.rows; ++r) {
    for (int64_t c = 0; c < rows.cols; ++c) {
      float value = LoadElement(rows.data + r * rows.stride_bytes, rows.dtype, c);
      bool finite = storage == DType::kF32 ? IsFinite(value) : IsFinite(FloatToBf16(value));
      if (finite) continue;
      return absl::DataLossError(absl::StrCat("weight at row ", r, ", column ", c, " is ", value,
                                              " in ", std::string(Name(storage)),
                                              ", not a finite number"));
    }
  }
  return absl::DataLossError("a weight is not finite");
}

template <typename T>
absl::Status PackTyped(const WeightRows& rows, int64_t out_begin, const Panels& panels,
                       std::byte* data, ThreadPool& pool) {
  PanelPacker<T> packer(rows, panels, data);
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

}  // namespace

absl::Status PackIntoPanels(const WeightRows& rows, int64_t out_begin, const Panels& panels,
                            std::byte* data, ThreadPool& pool) {
  if (rows.rows == 0 || rows.cols == 0) return absl::OkStatus();
  if (panels.storage == DType::kF32) return PackTyped<float>(rows, out_begin, panels, data, pool);
  return PackTyped<uint16_t>(rows, out_begin, panels, data, pool);
}

}  // namespace lockstep::kernels::cpu
