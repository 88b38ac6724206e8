// Bytes that arrived before anybody asked for them, first in, first out.
#ifndef LOCKSTEP_WORKER_COLLECTIVE_BYTE_QUEUE_H_
#define LOCKSTEP_WORKER_COLLECTIVE_BYTE_QUEUE_H_

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace lockstep::worker {

/// Grows with what is put in; gives its memory back when it runs empty. Not thread-safe.
class ByteQueue {
 public:
  bool empty() const { return begin_ == bytes_.size(); }

  /// Room for `count` more bytes at the end, to be filled by the caller before the next call.
  std::span<std::byte> Extend(size_t count) {
    bytes_.resize(bytes_.size() + count);
    return std::span(bytes_).last(count);
  }

  /// Moves up to out.size() bytes to the start of `out`; returns how many.
  size_t Take(std::span<std::byte> out) {
    size_t count = std::min(out.size(), bytes_.size() - begin_);
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(begin_), count, out.begin());
    begin_ += count;
    if (empty()) {
      bytes_ = {};
      begin_ = 0;
    }
    return count;
  }

 private:
  std::vector<std::byte> bytes_;
  size_t begin_ = 0;
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_COLLECTIVE_BYTE_QUEUE_H_
