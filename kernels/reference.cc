// Loops as the formulas read.
#include "kernels/reference.h"

#include <algorithm>
#include <cmath>

namespace lockstep::kernels {

ReferenceMatrix ReferenceProduct(ConstMatrix x, ConstMatrix w) {
  ReferenceMatrix y(x.rows, w.rows);
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t n = 0; n < w.rows; ++n) {
      double sum = 0;
      for (int64_t k = 0; k < x.cols; ++k) sum += double{x.row(r)[k]} * double{w.row(n)[k]};
      y.at(r, n) = sum;
    }
  }
  return y;
}

ReferenceMatrix ReferenceProductMagnitude(ConstMatrix x, ConstMatrix w) {
  ReferenceMatrix y(x.rows, w.rows);
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t n = 0; n < w.rows; ++n) {
      double sum = 0;
      for (int64_t k = 0; k < x.cols; ++k) {
        sum += std::fabs(double{x.row(r)[k]} * double{w.row(n)[k]});
      }
      y.at(r, n) = sum;
    }
  }
  return y;
}

ReferenceMatrix ReferenceRmsNorm(const ReferenceMatrix& x, std::span<const float> weight,
                                 double eps) {
  ReferenceMatrix y(x.rows, x.cols);
  for (int64_t r = 0; r < x.rows; ++r) {
    double squares = 0;
    for (int64_t i = 0; i < x.cols; ++i) squares += x.at(r, i) * x.at(r, i);
    double scale = 1 / std::sqrt(squares / static_cast<double>(x.cols) + eps);
    for (int64_t i = 0; i < x.cols; ++i) y.at(r, i) = x.at(r, i) * scale * weight[i];
  }
  return y;
}

ReferenceMatrix ReferenceSiluMul(ConstMatrix gate_up) {
  int64_t n = gate_up.cols / 2;
  ReferenceMatrix y(gate_up.rows, n);
  for (int64_t r = 0; r < gate_up.rows; ++r) {
    for (int64_t i = 0; i < n; ++i) {
      double gate = gate_up.row(r)[i];
      y.at(r, i) = gate / (1 + std::exp(-gate)) * gate_up.row(r)[n + i];
    }
  }
  return y;
}

ReferenceMatrix ReferenceRotateHalf(ConstMatrix x, std::span<const int32_t> positions,
                                    std::span<const double> inverse_frequencies, double scale) {
  int64_t half = static_cast<int64_t>(inverse_frequencies.size());
  ReferenceMatrix y(x.rows, x.cols);
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t c = 0; c < x.cols; ++c) {
      int64_t i = c % half;
      double angle = positions[r] * inverse_frequencies[i];
      bool first = c % (2 * half) < half;
      double other = x.row(r)[first ? c + half : c - half];
      y.at(r, c) =
          scale * (x.row(r)[c] * std::cos(angle) + (first ? -other : other) * std::sin(angle));
    }
  }
  return y;
}

ReferenceMatrix ReferenceAttention(ConstMatrix q, ConstMatrix keys, ConstMatrix values,
                                   int head_dim, double scale) {
  int64_t heads = q.cols / head_dim;
  int64_t group = heads / (keys.cols / head_dim);
  ReferenceMatrix out(q.rows, q.cols);
  for (int64_t r = 0; r < q.rows; ++r) {
    int64_t tokens = keys.rows - q.rows + r + 1;
    for (int64_t h = 0; h < heads; ++h) {
      const float* query = q.row(r) + h * head_dim;
      int64_t kv_offset = h / group * head_dim;
      std::vector<double> weights(tokens);
      for (int64_t t = 0; t < tokens; ++t) {
        double dot = 0;
        for (int i = 0; i < head_dim; ++i) {
          dot += double{query[i]} * double{keys.row(t)[kv_offset + i]};
        }
        weights[t] = scale * dot;
      }
      double largest = *std::max_element(weights.begin(), weights.end());
      double total = 0;
      for (double& weight : weights) total += weight = std::exp(weight - largest);
      for (int i = 0; i < head_dim; ++i) {
        double sum = 0;
        for (int64_t t = 0; t < tokens; ++t) sum += weights[t] * values.row(t)[kv_offset + i];
        out.at(r, h * head_dim + i) = sum / total;
      }
    }
  }
  return out;
}

}  // namespace lockstep::kernels
