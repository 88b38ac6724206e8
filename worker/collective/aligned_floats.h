// Scratch floats on a cache line's border that grow and never shrink.
#ifndef LOCKSTEP_WORKER_COLLECTIVE_ALIGNED_FLOATS_H_
#define LOCKSTEP_WORKER_COLLECTIVE_ALIGNED_FLOATS_H_

#include <cstddef>
#include <memory>
#include <new>
#include <span>

namespace lockstep::worker {

/// One buffer, 64-byte aligned. Not thread-safe.
class AlignedFloats {
 public:
  /// The first `count` floats; growing loses the contents and invalidates earlier spans.
  std::span<float> Get(size_t count) {
    if (count > capacity_) {
      data_.reset(static_cast<float*>(::operator new(count * sizeof(float), kAlignment)));
      capacity_ = count;
    }
    return {data_.get(), count};
  }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(float* data) const { ::operator delete(data, kAlignment); }
  };

  std::unique_ptr<float, Free> data_;
  size_t capacity_ = 0;
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_COLLECTIVE_ALIGNED_FLOATS_H_
