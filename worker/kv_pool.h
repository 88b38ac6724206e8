// The rank's pool of key-value blocks: one zeroed mapping, divided by layer.
#ifndef LOCKSTEP_WORKER_KV_POOL_H_
#define LOCKSTEP_WORKER_KV_POOL_H_

#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "kernels/attention.h"
#include "kernels/memory.h"

namespace lockstep::worker {

/// Keys and values of `blocks` blocks for each of `layers` layers. Owns the memory, does not know
/// which block belongs to whom (that is the coordinator's and SequenceTable's). Pages become
/// resident when they are first written. Movable; not synchronised.
class KvPool {
 public:
  /// ResourceExhausted, naming the size, when the system refuses.
  static absl::StatusOr<KvPool> Create(int64_t layers, int64_t blocks,
                                       const kernels::KvLayout& layout);

  const kernels::KvLayout& layout() const { return layout_; }
  int64_t blocks() const { return blocks_; }
  int64_t bytes() const { return memory_.size(); }
  /// `layer` counts from 0 within the stage.
  kernels::KvLayer layer(int64_t layer) const {
    std::byte* keys = memory_.data() + 2 * layer * blocks_ * layout_.block_bytes();
    return {keys, keys + blocks_ * layout_.block_bytes()};
  }

 private:
  KvPool(kernels::HugeBuffer memory, int64_t blocks, const kernels::KvLayout& layout)
      : memory_(std::move(memory)), blocks_(blocks), layout_(layout) {}

  kernels::HugeBuffer memory_;
  int64_t blocks_;
  kernels::KvLayout layout_;
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_KV_POOL_H_
