// A stack of free block numbers, and a bit per block against returning one twice.
#include "coordinator/engine/block_pool.h"

#include <glog/logging.h>

namespace lockstep::coordinator {

BlockPool::BlockPool(int64_t num_blocks) : is_free_(num_blocks, true) {
  free_.reserve(num_blocks);
  for (int64_t block = num_blocks - 1; block >= 0; --block) {
    free_.push_back(static_cast<int32_t>(block));
  }
}

std::vector<int32_t> BlockPool::Take(int64_t count) {
  CHECK_GE(count, 0);
  CHECK_LE(count, free_blocks()) << "more blocks taken than are free";
  std::vector<int32_t> blocks;
  blocks.reserve(count);
  for (int64_t i = 0; i < count; ++i) {
    blocks.push_back(free_.back());
    is_free_[free_.back()] = false;
    free_.pop_back();
  }
  return blocks;
}

void BlockPool::Return(std::span<const int32_t> blocks) {
  for (int32_t block : blocks) {
    CHECK(block >= 0 && block < num_blocks()) << "no block has number " << block;
    CHECK(!is_free_[block]) << "block " << block << " returned twice";
    is_free_[block] = true;
    free_.push_back(block);
  }
}

}  // namespace lockstep::coordinator
