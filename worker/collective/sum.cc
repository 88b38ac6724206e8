// See sum.h. Compiled once per instruction set by Highway; which one runs changes no bit, since
// every element is summed by itself.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "worker/collective/sum.cc"
#include <hwy/foreach_target.h>
// Must come after foreach_target.h.
#include <hwy/highway.h>

#include "worker/collective/sum.h"

HWY_BEFORE_NAMESPACE();
namespace lockstep::worker::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

void SumInOrder(const float* const* addends, size_t num_addends, int64_t count, float* out) {
  const hn::ScalableTag<float> tag;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(tag));
  int64_t i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
    auto sum0 = hn::LoadU(tag, addends[0] + i);
    auto sum1 = hn::LoadU(tag, addends[0] + i + lanes);
    auto sum2 = hn::LoadU(tag, addends[0] + i + 2 * lanes);
    auto sum3 = hn::LoadU(tag, addends[0] + i + 3 * lanes);
    for (size_t r = 1; r < num_addends; ++r) {
      sum0 = hn::Add(sum0, hn::LoadU(tag, addends[r] + i));
      sum1 = hn::Add(sum1, hn::LoadU(tag, addends[r] + i + lanes));
      sum2 = hn::Add(sum2, hn::LoadU(tag, addends[r] + i + 2 * lanes));
      sum3 = hn::Add(sum3, hn::LoadU(tag, addends[r] + i + 3 * lanes));
    }
    hn::StoreU(sum0, tag, out + i);
    hn::StoreU(sum1, tag, out + i + lanes);
    hn::StoreU(sum2, tag, out + i + 2 * lanes);
    hn::StoreU(sum3, tag, out + i + 3 * lanes);
  }
  for (; i < count; ++i) {
    float sum = addends[0][i];
    for (size_t r = 1; r < num_addends; ++r) sum += addends[r][i];
    out[i] = sum;
  }
}

}  // namespace lockstep::worker::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lockstep::worker {

HWY_EXPORT(SumInOrder);

void SumInOrder(std::span<const float* const> addends, int64_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(SumInOrder)(addends.data(), addends.size(), count, out);
}

}  // namespace lockstep::worker
#endif  // HWY_ONCE
