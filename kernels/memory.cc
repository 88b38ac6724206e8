// HugeBuffer over mmap and madvise.
#include "kernels/memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace lockstep::kernels {
namespace {

constexpr int64_t kPage = 4096;
constexpr int64_t kHugePage = int64_t{2} << 20;

int64_t RoundUp(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

std::byte* Map(int64_t bytes) {
  void* address =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, /*offset=*/0);
  return address == MAP_FAILED ? nullptr : static_cast<std::byte*>(address);
}

// mmap aligns to 4 KiB only, so map one huge page more and give the two ends back.
std::byte* MapHuge(int64_t bytes) {
  std::byte* base = Map(bytes + kHugePage);
  if (base == nullptr) return nullptr;
  int64_t before =
      RoundUp(reinterpret_cast<int64_t>(base), kHugePage) - reinterpret_cast<int64_t>(base);
  if (before > 0) munmap(base, before);
  std::byte* data = base + before;
  munmap(data + bytes, kHugePage - before);
  // A refusal only costs speed.
  madvise(data, bytes, MADV_HUGEPAGE);
  return data;
}

}  // namespace

absl::StatusOr<HugeBuffer> HugeBuffer::Allocate(int64_t bytes) {
  if (bytes == 0) return HugeBuffer();
  bool huge = bytes >= kHugePage;
  int64_t mapped = RoundUp(bytes, huge ? kHugePage : kPage);
  std::byte* data = huge ? MapHuge(mapped) : Map(mapped);
  if (data == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot map ", mapped, " bytes of memory: ", std::strerror(errno)));
  }
  return HugeBuffer(data, bytes, mapped);
}

HugeBuffer::~HugeBuffer() {
  if (data_ != nullptr) munmap(data_, mapped_);
}

HugeBuffer::HugeBuffer(HugeBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      mapped_(std::exchange(other.mapped_, 0)) {}

HugeBuffer& HugeBuffer::operator=(HugeBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(mapped_, other.mapped_);
  return *this;
}

}  // namespace lockstep::kernels
