// Key-value blocks that may be shared: who holds which, and which full blocks hold tokens that a
// later sequence may begin with.
//
// A cached block is found by the tokens in it and by the entry of the block before it, so that an
// entry stands for all tokens from the sequence's start: a chain from `PrefixId::kRoot`. Keys are
// compared, not only hashed: no two prefixes are ever confused. Who holds a block holds those
// before it, and blocks are given up last one first, so that a chain is forgotten from its end.
// (Only where two sequences computed the same block at once, the one behind the twin may lose its
// parent; it is found no more then, and goes in its turn.)
//
// Owns: the numbers of all blocks, as BlockPool does, and the holders' count of each. Does not own:
// the memory, which is the workers', nor who the holders are, which is the caller's.
// Thread-safety: none; the engine calls it under its mutex.
#ifndef LOCKSTEP_COORDINATOR_ENGINE_PREFIX_CACHE_H_
#define LOCKSTEP_COORDINATOR_ENGINE_PREFIX_CACHE_H_

#include <array>
#include <cstdint>
#include <list>
#include <span>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "coordinator/engine/block_pool.h"

namespace lockstep::coordinator {

/// Stands for all tokens of a sequence up to the end of a full block; never used again for others.
enum class PrefixId : uint64_t { kRoot = 0 };

/// A root of its own: what is published below it is found below it alone.
constexpr PrefixId PrivateRoot(uint64_t number) { return PrefixId{number | (uint64_t{1} << 63)}; }

/// Blocks that hold the first tokens of a sequence, in order; full ones.
struct CachedPrefix {
  std::vector<int32_t> blocks;
  PrefixId id = PrefixId::kRoot;
  int64_t unheld_blocks = 0;  // of them, those that nobody holds: Hold makes them unavailable
  int64_t tokens() const { return static_cast<int64_t>(blocks.size()) * kBlockTokens; }
};

class PrefixCache {
 public:
  explicit PrefixCache(int64_t num_blocks);
  PrefixCache(PrefixCache&&) = default;
  PrefixCache& operator=(PrefixCache&&) = default;

  int64_t num_blocks() const { return pool_.num_blocks(); }
  /// Blocks that nobody holds.
  int64_t available_blocks() const { return pool_.free_blocks() + cached_blocks(); }
  /// Blocks that somebody holds.
  int64_t used_blocks() const { return num_blocks() - available_blocks(); }
  /// Blocks that nobody holds and that are kept for their tokens until room is needed.
  int64_t cached_blocks() const { return static_cast<int64_t>(unheld_.size()); }

  /// The longest cached beginning of `tokens`. It holds nothing yet, so a Take or Publish in
  /// between makes it stale.
  CachedPrefix Find(std::span<const int32_t> tokens, PrefixId root = PrefixId::kRoot) const;
  /// Adds a holder to each block of what Find has just returned.
  void Hold(const CachedPrefix& prefix);

  /// `count` blocks with one holder each, at most available_blocks(); free ones first, then the
  /// least recently used cached ones, which are forgotten.
  std::vector<int32_t> Take(int64_t count);

  /// Takes a holder off each block of a sequence, in its order. What nobody holds any more is kept
  /// if it is cached.
  void Return(std::span<const int32_t> blocks);

  /// `block`, which the caller holds, now has the keys and values of `tokens` (kBlockTokens of
  /// them) after the prefix `parent`, and nobody will write it again. Returns the id of the longer
  /// prefix. Where another block has it already, that one stays the one to be found.
  PrefixId Publish(PrefixId parent, std::span<const int32_t> tokens, int32_t block);

  /// Blocks that would become available if one holder of each gave them up.
  int64_t CountSoleHeld(std::span<const int32_t> blocks) const;

 private:
  struct Key {
    PrefixId parent = PrefixId::kRoot;
    std::array<int32_t, kBlockTokens> tokens{};
    bool operator==(const Key&) const = default;
    template <class H>
    friend H AbslHashValue(H hash, const Key& key) {
      return H::combine(std::move(hash), key.parent, key.tokens);
    }
  };
  struct Entry {
    PrefixId id = PrefixId::kRoot;
    int32_t block = 0;
  };
  struct Block {
    int32_t holders = 0;
    bool cached = false;
    Key key;                               // while it is cached
    std::list<int32_t>::iterator in_list;  // while it is cached and nobody holds it
  };

  static Key MakeKey(PrefixId parent, std::span<const int32_t> tokens);
  PrefixId NextId() { return PrefixId{next_id_++}; }
  void Evict(int64_t count);

  BlockPool pool_;
  std::vector<Block> blocks_;  // by number
  absl::flat_hash_map<Key, Entry> entries_;
  std::list<int32_t> unheld_;  // cached blocks that nobody holds, the least recently used first
  uint64_t next_id_ = 1;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_ENGINE_PREFIX_CACHE_H_
