// The probes' figures are possible ones.
#include "kernels/probe.h"

#include "gtest/gtest.h"

namespace lockstep::kernels {
namespace {

TEST(ProbeTest, ReadingIsNeitherFreeNorStill) {
  ThreadPool pool(2);
  auto probe = ReadProbe::Create(int64_t{32} << 20, pool);
  ASSERT_TRUE(probe.ok()) << probe.status();
  EXPECT_FALSE((*probe)->way().empty());
  for (int i = 0; i < 5; ++i) {
    double rate = (*probe)->Measure(int64_t{16} << 20, pool);
    EXPECT_GT(rate, 1e7);
    EXPECT_LT(rate, 1e13);
  }
}

TEST(ProbeTest, AProductCountsItsOperationsAndBytes) {
  ThreadPool pool(1);
  auto probe = ProductProbe::Create(ProductKind::kOwn, DType::kBF16, 3, 64, 100, 0, pool);
  ASSERT_TRUE(probe.ok()) << probe.status();
  EXPECT_EQ((*probe)->operations(), 2.0 * 3 * 64 * 100);
  EXPECT_EQ((*probe)->weight_bytes(), 2 * 64 * 100);
  EXPECT_GT((*probe)->Measure(pool), 0);
}

TEST(ProbeTest, BothKindsHaveARate) {
  ThreadPool pool(2);
  for (ProductKind kind : {ProductKind::kOwn, ProductKind::kOneDnn}) {
    auto rate = ProductRate(kind, DType::kF32, 8, 64, 64, 3, pool);
    ASSERT_TRUE(rate.ok()) << rate.status();
    EXPECT_GT(*rate, 1e5);
  }
}

}  // namespace
}  // namespace lockstep::kernels
