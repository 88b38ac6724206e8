// Alignment, zeroes and ownership of huge buffers.
#include "kernels/memory.h"

#include <algorithm>
#include <utility>

#include "gtest/gtest.h"

namespace lockstep::kernels {
namespace {

TEST(HugeBufferTest, IsZeroedAndAligned) {
  for (int64_t bytes : {int64_t{1}, int64_t{5000}, int64_t{3} << 20}) {
    auto buffer = HugeBuffer::Allocate(bytes);
    ASSERT_TRUE(buffer.ok()) << buffer.status();
    EXPECT_EQ(buffer->size(), bytes);
    EXPECT_GE(buffer->mapped_bytes(), bytes);
    EXPECT_TRUE(std::all_of(buffer->data(), buffer->data() + buffer->mapped_bytes(),
                            [](std::byte b) { return b == std::byte{0}; }));
    int64_t alignment = bytes >= (int64_t{2} << 20) ? int64_t{2} << 20 : 64;
    EXPECT_EQ(reinterpret_cast<int64_t>(buffer->data()) % alignment, 0);
  }
}

TEST(HugeBufferTest, MovingPassesOwnershipOn) {
  HugeBuffer a = *HugeBuffer::Allocate(4 << 20);
  std::byte* data = a.data();
  data[7] = std::byte{9};
  HugeBuffer b(std::move(a));
  EXPECT_EQ(a.data(), nullptr);
  EXPECT_EQ(b.data(), data);
  HugeBuffer c = *HugeBuffer::Allocate(10);
  c = std::move(b);
  EXPECT_EQ(c.data()[7], std::byte{9});
}

TEST(HugeBufferTest, AnImpossibleSizeIsAnErrorNotACrash) {
  auto buffer = HugeBuffer::Allocate(int64_t{1} << 60);
  EXPECT_EQ(buffer.status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(HugeBufferTest, NothingIsAnEmptyBuffer) {
  auto buffer = HugeBuffer::Allocate(0);
  ASSERT_TRUE(buffer.ok());
  EXPECT_EQ(buffer->data(), nullptr);
}

}  // namespace
}  // namespace lockstep::kernels
