// Working memory that a thread keeps between calls, so that a step allocates nothing.
#ifndef LOCKSTEP_KERNELS_CPU_SCRATCH_H_
#define LOCKSTEP_KERNELS_CPU_SCRATCH_H_

#include <algorithm>
#include <cstdint>

#include "absl/status/statusor.h"
#include "glog/logging.h"
#include "kernels/memory.h"

namespace lockstep::kernels::cpu {

/// Grows to the largest request and stays. Contents do not survive Get. For one thread.
class Scratch {
 public:
  /// `bytes` bytes, 64-byte aligned, valid until the next Get. Ends the process when the system has
  /// no memory left: requests are bounded by a few tens of MiB and have no caller that could go on.
  float* Get(int64_t bytes) {
    if (bytes > buffer_.size()) {
      buffer_ = HugeBuffer();
      absl::StatusOr<HugeBuffer> grown = HugeBuffer::Allocate(std::max(bytes, kHugePage));
      CHECK(grown.ok()) << grown.status();
      buffer_ = *std::move(grown);
    }
    return buffer_.as<float>();
  }

 private:
  // Even a little scratch on a huge page: misses of the TLB cost a wide product three per cent.
  static constexpr int64_t kHugePage = int64_t{2} << 20;

  HugeBuffer buffer_;
};

}  // namespace lockstep::kernels::cpu

#endif  // LOCKSTEP_KERNELS_CPU_SCRATCH_H_
