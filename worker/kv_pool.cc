// KvPool's allocation.
#include "worker/kv_pool.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lockstep::worker {

absl::StatusOr<KvPool> KvPool::Create(int64_t layers, int64_t blocks,
                                      const kernels::KvLayout& layout) {
  int64_t bytes = 2 * layers * blocks * layout.block_bytes();
  absl::StatusOr<kernels::HugeBuffer> memory = kernels::HugeBuffer::Allocate(bytes);
  if (!memory.ok()) {
    return absl::ResourceExhaustedError(absl::StrCat("the key-value pool of ", blocks, " blocks x ",
                                                     layers,
                                                     " layers: ", memory.status().message()));
  }
  return KvPool(*std::move(memory), blocks, layout);
}

}  // namespace lockstep::worker
