// See onednn_rate.h.
#include "bench/onednn_rate.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "dnnl.hpp"

namespace lockstep::bench {
namespace {

/// Every element 1, so that no denormal slows the product down.
void FillWithOnes(dnnl::memory& memory, DType dtype) {
  if (dtype == DType::kF32) {
    auto* values = static_cast<float*>(memory.get_data_handle());
    std::fill_n(values, memory.get_desc().get_size() / sizeof(float), 1.0f);
  } else {
    auto* values = static_cast<uint16_t*>(memory.get_data_handle());
    std::fill_n(values, memory.get_desc().get_size() / sizeof(uint16_t), uint16_t{0x3f80});
  }
}

}  // namespace

struct OneDnnProduct::Impl {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  dnnl::matmul product;
  dnnl::memory x, y;
  std::vector<dnnl::memory> weights;
  size_t next = 0;
};

OneDnnProduct::OneDnnProduct(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
OneDnnProduct::~OneDnnProduct() = default;

absl::StatusOr<std::unique_ptr<OneDnnProduct>> OneDnnProduct::Create(DType dtype, int64_t rows,
                                                                     int64_t n, int64_t k,
                                                                     int64_t footprint_bytes) {
  using dnnl::memory;
  const auto type = dtype == DType::kF32 ? memory::data_type::f32 : memory::data_type::bf16;
  try {
    auto impl = std::make_unique<Impl>();
    memory::desc x({rows, k}, type, memory::format_tag::ab);
    memory::desc weights({k, n}, type, memory::format_tag::any);
    memory::desc y({rows, n}, memory::data_type::f32, memory::format_tag::ab);
    dnnl::matmul::primitive_desc description(dnnl::matmul::desc(x, weights, y), impl->engine);
    impl->product = dnnl::matmul(description);
    impl->x = memory(description.src_desc(), impl->engine);
    impl->y = memory(description.dst_desc(), impl->engine);
    FillWithOnes(impl->x, dtype);
    int64_t bytes = 0;
    do {
      impl->weights.emplace_back(description.weights_desc(), impl->engine);
      FillWithOnes(impl->weights.back(), dtype);
      bytes += static_cast<int64_t>(description.weights_desc().get_size());
    } while (bytes < footprint_bytes);
    return std::unique_ptr<OneDnnProduct>(new OneDnnProduct(std::move(impl)));
  } catch (const dnnl::error& error) {
    return absl::InternalError(absl::StrCat("oneDNN: ", error.message));
  }
}

double OneDnnProduct::Measure() {
  const dnnl::memory& weights = impl_->weights[impl_->next++ % impl_->weights.size()];
  absl::Time start = absl::Now();
  impl_->product.execute(
      impl_->stream,
      {{DNNL_ARG_SRC, impl_->x}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DST, impl_->y}});
  impl_->stream.wait();
  return absl::ToDoubleSeconds(absl::Now() - start);
}

}  // namespace lockstep::bench
