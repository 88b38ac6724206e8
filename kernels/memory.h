// Large zeroed memory on huge pages where the system grants them: packed weights, the key-value
// pool and activations. Huge pages keep the streams of a product out of the TLB's way.
#ifndef LOCKSTEP_KERNELS_MEMORY_H_
#define LOCKSTEP_KERNELS_MEMORY_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"

namespace lockstep::kernels {

/// An owned anonymous mapping, zero-filled, aligned to 64 bytes at least and to 2 MiB when it is
/// 2 MiB or more. Pages become resident on first touch, on the toucher's NUMA node. Movable, not
/// copyable; the address never changes. Not synchronised.
class HugeBuffer {
 public:
  /// An empty buffer.
  HugeBuffer() = default;
  /// ResourceExhausted when the system refuses; `bytes` may be 0.
  static absl::StatusOr<HugeBuffer> Allocate(int64_t bytes);
  ~HugeBuffer();
  HugeBuffer(HugeBuffer&& other) noexcept;
  HugeBuffer& operator=(HugeBuffer&& other) noexcept;

  std::byte* data() const { return data_; }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }
  /// The bytes asked for.
  int64_t size() const { return size_; }
  /// The bytes mapped: size() rounded up to whole pages.
  int64_t mapped_bytes() const { return mapped_; }

 private:
  HugeBuffer(std::byte* data, int64_t size, int64_t mapped)
      : data_(data), size_(size), mapped_(mapped) {}

  std::byte* data_ = nullptr;
  int64_t size_ = 0;
  int64_t mapped_ = 0;
};

}  // namespace lockstep::kernels

#endif  // LOCKSTEP_KERNELS_MEMORY_H_
