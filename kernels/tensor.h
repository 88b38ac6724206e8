// Non-owning views of row-major fp32 matrices, the only activation type that kernels exchange.
#ifndef LOCKSTEP_KERNELS_TENSOR_H_
#define LOCKSTEP_KERNELS_TENSOR_H_

#include <cstdint>

namespace lockstep::kernels {

/// [rows, cols] of T, row-major; row r begins at data + r * stride. Does not own `data`.
template <typename T>
struct MatrixView {
  T* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;

  MatrixView() = default;
  MatrixView(T* data_in, int64_t rows_in, int64_t cols_in)
      : MatrixView(data_in, rows_in, cols_in, cols_in) {}
  MatrixView(T* data_in, int64_t rows_in, int64_t cols_in, int64_t stride_in)
      : data(data_in), rows(rows_in), cols(cols_in), stride(stride_in) {}
  /// A writable view may be read.
  operator MatrixView<const T>() const { return {data, rows, cols, stride}; }

  T* row(int64_t r) const { return data + r * stride; }
  /// Rows [begin, end).
  MatrixView RowRange(int64_t begin, int64_t end) const {
    return {row(begin), end - begin, cols, stride};
  }
  /// Columns [begin, end) of every row.
  MatrixView ColumnRange(int64_t begin, int64_t end) const {
    return {data + begin, rows, end - begin, stride};
  }
};

using Matrix = MatrixView<float>;
using ConstMatrix = MatrixView<const float>;

}  // namespace lockstep::kernels

#endif  // LOCKSTEP_KERNELS_TENSOR_H_
