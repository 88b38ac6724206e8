// A hash table of chained blocks, and a list of those that nobody holds in the order of their use.
#include "coordinator/engine/prefix_cache.h"

#include <glog/logging.h>

#include <algorithm>

namespace lockstep::coordinator {

PrefixCache::PrefixCache(int64_t num_blocks) : pool_(num_blocks), blocks_(num_blocks) {}

PrefixCache::Key PrefixCache::MakeKey(PrefixId parent, std::span<const int32_t> tokens) {
  Key key{.parent = parent};
  std::copy_n(tokens.begin(), kBlockTokens, key.tokens.begin());
  return key;
}

CachedPrefix PrefixCache::Find(std::span<const int32_t> tokens, PrefixId root) const {
  CachedPrefix prefix{.id = root};
  while (static_cast<int64_t>(tokens.size()) >= kBlockTokens) {
    auto entry = entries_.find(MakeKey(prefix.id, tokens));
    if (entry == entries_.end()) break;
    prefix.id = entry->second.id;
    prefix.blocks.push_back(entry->second.block);
    if (blocks_[entry->second.block].holders == 0) ++prefix.unheld_blocks;
    tokens = tokens.subspan(kBlockTokens);
  }
  return prefix;
}

void PrefixCache::Hold(const CachedPrefix& prefix) {
  for (int32_t number : prefix.blocks) {
    Block& block = blocks_[number];
    CHECK(block.cached) << "block " << number << " was forgotten since it was found";
    if (block.holders++ == 0) unheld_.erase(block.in_list);
  }
}

std::vector<int32_t> PrefixCache::Take(int64_t count) {
  Evict(count - pool_.free_blocks());
  std::vector<int32_t> taken = pool_.Take(count);
  for (int32_t number : taken) blocks_[number].holders = 1;
  return taken;
}

void PrefixCache::Return(std::span<const int32_t> blocks) {
  for (auto number = blocks.rbegin(); number != blocks.rend(); ++number) {
    Block& block = blocks_[*number];
    CHECK_GT(block.holders, 0) << "block " << *number << " returned by more than took it";
    if (--block.holders > 0) continue;
    if (block.cached) {
      block.in_list = unheld_.insert(unheld_.end(), *number);
    } else {
      pool_.Return(std::span(&*number, 1));
    }
  }
}

PrefixId PrefixCache::Publish(PrefixId parent, std::span<const int32_t> tokens, int32_t block) {
  const Key key = MakeKey(parent, tokens);
  auto [entry, is_new] = entries_.try_emplace(key, Entry{.block = block});
  if (!is_new) return entry->second.id;
  entry->second.id = NextId();
  CHECK(blocks_[block].holders > 0 && !blocks_[block].cached) << "block " << block;
  blocks_[block].cached = true;
  blocks_[block].key = key;
  return entry->second.id;
}

int64_t PrefixCache::CountSoleHeld(std::span<const int32_t> blocks) const {
  return std::count_if(blocks.begin(), blocks.end(),
                       [this](int32_t number) { return blocks_[number].holders == 1; });
}

void PrefixCache::Evict(int64_t count) {
  CHECK_LE(count, cached_blocks()) << "more blocks taken than are available";
  for (; count > 0; --count) {
    const int32_t number = unheld_.front();
    unheld_.pop_front();
    blocks_[number].cached = false;
    entries_.erase(blocks_[number].key);
    pool_.Return(std::span(&number, 1));
  }
}

}  // namespace lockstep::coordinator
