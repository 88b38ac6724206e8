// Hands out the numbers of key-value blocks and takes them back.
//
// Units: a block holds the keys and values of kBlockTokens consecutive tokens of one sequence, in
// every layer; block i is the same place in the cache of every rank, so that one table serves all.
// Owns: the knowledge of which numbers are free. Does not own: the memory, which is the workers',
// nor who holds what, which is the caller's.
// Thread-safety: none; the engine calls it under its mutex.
#ifndef LOCKSTEP_COORDINATOR_ENGINE_BLOCK_POOL_H_
#define LOCKSTEP_COORDINATOR_ENGINE_BLOCK_POOL_H_

#include <cstdint>
#include <span>
#include <vector>

namespace lockstep::coordinator {

/// Tokens per block; a part of the wire (cluster.proto), as every rank's kernels have it.
inline constexpr int64_t kBlockTokens = 16;

/// Blocks that `tokens` tokens fill, the last one perhaps in part.
constexpr int64_t BlocksFor(int64_t tokens) { return (tokens + kBlockTokens - 1) / kBlockTokens; }

class BlockPool {
 public:
  /// All of the blocks 0 .. num_blocks - 1 are free.
  explicit BlockPool(int64_t num_blocks);
  BlockPool(BlockPool&&) = default;
  BlockPool& operator=(BlockPool&&) = default;

  int64_t num_blocks() const { return static_cast<int64_t>(is_free_.size()); }
  int64_t free_blocks() const { return static_cast<int64_t>(free_.size()); }
  int64_t used_blocks() const { return num_blocks() - free_blocks(); }

  /// `count` blocks, at most free_blocks(); those that came back last go out first.
  std::vector<int32_t> Take(int64_t count);

  /// Blocks that were taken and not returned since.
  void Return(std::span<const int32_t> blocks);

 private:
  std::vector<int32_t> free_;  // a stack
  std::vector<bool> is_free_;  // by number
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_ENGINE_BLOCK_POOL_H_
