// The row-wise operations of a decoder layer besides products and attention. All are row-invariant:
// a row's bits depend on that row alone.
#ifndef LOCKSTEP_KERNELS_OPS_H_
#define LOCKSTEP_KERNELS_OPS_H_

#include <cstdint>
#include <span>

#include "kernels/tensor.h"
#include "kernels/thread_pool.h"

namespace lockstep::kernels {

/// out[r, i] = x[r, i] / sqrt(mean_i(x[r, i]²) + eps) * weight[i] (Zhang & Sennrich 2019).
/// x, out: [rows, n] fp32, may be the same; weight: [n].
void RmsNorm(ConstMatrix x, std::span<const float> weight, float eps, Matrix out, ThreadPool& pool);

/// residual += delta, then out = RmsNorm(residual). residual, delta, out: [rows, n] fp32, distinct.
void AddRmsNorm(Matrix residual, ConstMatrix delta, std::span<const float> weight, float eps,
                Matrix out, ThreadPool& pool);

/// out[r, i] = silu(gate_up[r, i]) * gate_up[r, n + i], silu(z) = z / (1 + exp(-z)).
/// gate_up: [rows, 2n] fp32; out: [rows, n].
void SiluMul(ConstMatrix gate_up, Matrix out, ThreadPool& pool);

/// Rotation angles' cosines and sines, the same for all heads and layers of a step:
/// cos_sin[r, i] = cos(positions[r] * inverse_frequencies[i]), cos_sin[r, half + i] = the sine,
/// with the angle in double precision. cos_sin: [rows, 2 * half] fp32; inverse_frequencies: [half].
/// `scale` multiplies both (1 unless the RoPE scaling asks for an attention factor).
void RopeCosSin(std::span<const int32_t> positions, std::span<const double> inverse_frequencies,
                float scale, Matrix cos_sin, ThreadPool& pool);

/// Rotates in place, in Hugging Face's split-half form (Su et al. 2021): for each of `heads` heads
/// of 2 * half consecutive columns, (a, b) = (x[i], x[half + i]) becomes (a cos - b sin, b cos + a
/// sin). x: [rows, heads * 2 * half] fp32.
void RotateHalf(Matrix x, ConstMatrix cos_sin, int heads, ThreadPool& pool);

}  // namespace lockstep::kernels

#endif  // LOCKSTEP_KERNELS_OPS_H_
