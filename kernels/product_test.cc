// The product against the double-precision reference, and its row invariance bit by bit.
#include "kernels/product.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/op_cases.h"
#include "kernels/reference.h"

namespace lockstep::kernels {
namespace {

std::unique_ptr<PackedMatrix> Packed(const ProductCase& c, std::span<const float> weights,
                                     ThreadPool& pool, ProductKind kind) {
  auto matrix = PackedMatrix::Create(c.out_features, c.in_features, c.storage, kind);
  EXPECT_TRUE(matrix.ok()) << matrix.status();
  std::vector<std::byte> file = Encode(c.file, weights);
  int64_t stride = c.in_features * static_cast<int64_t>(SizeOf(c.file));
  absl::Status status =
      (*matrix)->PackRows(0, {file.data(), c.out_features, c.in_features, stride, c.file}, pool);
  EXPECT_TRUE(status.ok()) << status;
  status = (*matrix)->Finish(pool);
  EXPECT_TRUE(status.ok()) << status;
  return *std::move(matrix);
}

std::vector<float> Weights(const ProductCase& c) {
  return RandomNormal(c.out_features * c.in_features, c.seed, 0.02f);
}

std::vector<float> Activations(const ProductCase& c) {
  return RandomNormal(c.rows * c.in_features, c.seed + 1000);
}

std::string Describe(const ProductCase& c) {
  return std::to_string(c.rows) + " rows, " + std::to_string(c.out_features) + " x " +
         std::to_string(c.in_features) + " from " + std::string(Name(c.file)) + " kept in " +
         std::string(Name(c.storage));
}

void ExpectNearReference(const ProductCase& c, ProductKind kind, double tolerance) {
  SCOPED_TRACE(Describe(c));
  ThreadPool pool(2);
  std::vector<float> weights = Weights(c);
  std::vector<float> x = Activations(c);
  std::unique_ptr<PackedMatrix> matrix = Packed(c, weights, pool, kind);
  std::vector<float> y(c.rows * c.out_features, std::numeric_limits<float>::quiet_NaN());
  matrix->Product({x.data(), c.rows, c.in_features}, {y.data(), c.rows, c.out_features}, pool);
  std::vector<float> kept = RoundedTo(c.storage, RoundedTo(c.file, weights));
  ConstMatrix wv(kept.data(), c.out_features, c.in_features);
  ConstMatrix xv(x.data(), c.rows, c.in_features);
  ReferenceMatrix expected = ReferenceProduct(xv, wv);
  ReferenceMatrix magnitude = ReferenceProductMagnitude(xv, wv);
  int64_t wrong = 0;
  for (int64_t i = 0; i < std::ssize(y); ++i) {
    wrong += !(std::fabs(y[i] - expected.values[i]) <= tolerance * magnitude.values[i]);
  }
  EXPECT_EQ(wrong, 0) << "of " << y.size() << " elements";
}

TEST(ProductTest, OwnProductAgreesWithTheReference) {
  // Weights are compared after rounding, so that both storages accumulate fp32 error only.
  for (const ProductCase& c : ProductCases()) ExpectNearReference(c, ProductKind::kOwn, 1e-6);
}

TEST(ProductTest, OneDnnProductAgreesWithTheReference) {
  // With bf16 weights oneDNN's activations are rounded to bf16: by 2^-8 of their value at most.
  for (const ProductCase& c : ProductCases()) {
    ExpectNearReference(c, ProductKind::kOneDnn, c.storage == DType::kBF16 ? 0x1p-8 + 1e-6 : 2e-6);
  }
}

// Rows [begin, end) of x multiplied alone.
std::vector<float> ProductOfRows(const PackedMatrix& matrix, const std::vector<float>& x,
                                 int64_t begin, int64_t end, ThreadPool& pool) {
  std::vector<float> y((end - begin) * matrix.out_features());
  ConstMatrix rows(x.data() + begin * matrix.in_features(), end - begin, matrix.in_features());
  matrix.Product(rows, {y.data(), end - begin, matrix.out_features()}, pool);
  return y;
}

void ExpectRowInvariant(const ProductCase& c, ProductKind kind) {
  SCOPED_TRACE(Describe(c));
  ThreadPool one(1), two(2), three(3);
  ThreadPool* pools[] = {&one, &two, &three};
  std::unique_ptr<PackedMatrix> matrix = Packed(c, Weights(c), one, kind);
  std::vector<float> x = Activations(c);
  std::vector<float> alone;
  for (int64_t r = 0; r < c.rows; ++r) {
    std::vector<float> y = ProductOfRows(*matrix, x, r, r + 1, *pools[r % 3]);
    alone.insert(alone.end(), y.begin(), y.end());
  }
  auto expect_same = [&](int64_t begin, int64_t end, ThreadPool& pool) {
    std::vector<float> y = ProductOfRows(*matrix, x, begin, end, pool);
    EXPECT_EQ(
        std::memcmp(y.data(), alone.data() + begin * c.out_features, y.size() * sizeof(float)), 0)
        << "rows " << begin << " to " << end << " with " << pool.size() << " threads";
  };
  for (int64_t rows = 1; rows <= 70; ++rows) {
    int64_t begin = rows * 7 % (c.rows - rows + 1);
    expect_same(begin, begin + rows, *pools[rows % 3]);
  }
  for (ThreadPool* pool : pools) expect_same(0, c.rows, *pool);
}

constexpr int64_t kManyRows = 530;

TEST(ProductTest, OwnRowsKeepTheirBitsInAnyBatchChunkAndNumberOfThreads) {
  for (DType storage : {DType::kBF16, DType::kF32}) {
    ExpectRowInvariant({kManyRows, 100, 517, DType::kF32, storage, 21}, ProductKind::kOwn);
    ExpectRowInvariant({kManyRows, 288, 96, DType::kF32, storage, 22}, ProductKind::kOwn);
    ExpectRowInvariant({kManyRows, 1024, 512, DType::kF32, storage, 22}, ProductKind::kOwn);
  }
}

TEST(ProductTest, OwnElementIsOneChainOfFusedMultiplyAdds) {
  if (!__builtin_cpu_supports("fma")) GTEST_SKIP() << "no fused multiply-add here";
  ProductCase c = {20, 70, 301, DType::kBF16, DType::kBF16, 23};
  ThreadPool pool(2);
  std::vector<float> weights = Weights(c);
  std::vector<float> x = Activations(c);
  std::unique_ptr<PackedMatrix> matrix = Packed(c, weights, pool, ProductKind::kOwn);
  std::vector<float> y = ProductOfRows(*matrix, x, 0, c.rows, pool);
  std::vector<float> kept = RoundedTo(DType::kBF16, weights);
  for (int64_t r = 0; r < c.rows; ++r) {
    for (int64_t n = 0; n < c.out_features; ++n) {
      float sum = 0;
      for (int64_t k = 0; k < c.in_features; ++k) {
        sum = std::fma(kept[n * c.in_features + k], x[r * c.in_features + k], sum);
      }
      ASSERT_EQ(y[r * c.out_features + n], sum) << "row " << r << ", feature " << n;
    }
  }
}

void ExpectSameFromPieces(ProductKind kind) {
  ProductCase c = {3, 150, 77, DType::kBF16, DType::kBF16, 24};
  ThreadPool pool(2);
  std::vector<float> weights = Weights(c);
  std::vector<float> x = Activations(c);
  std::unique_ptr<PackedMatrix> whole = Packed(c, weights, pool, ProductKind::kOwn);
  auto pieces = PackedMatrix::Create(c.out_features, c.in_features, c.storage, ProductKind::kOwn);
  ASSERT_TRUE(pieces.ok()) << pieces.status();
  // One byte in front makes every element unaligned, as in a file whose header has an odd length.
  std::vector<std::byte> file = Encode(c.file, weights);
  file.insert(file.begin(), std::byte{0});
  int64_t stride = c.in_features * 2;
  const std::vector<int64_t> borders = {0, 5, 31, 33, 64, 96, 149, 150};
  for (size_t i = borders.size() - 1; i > 0; --i) {
    WeightRows rows = {file.data() + 1 + borders[i - 1] * stride, borders[i] - borders[i - 1],
                       c.in_features, stride, c.file};
    ASSERT_TRUE((*pieces)->PackRows(borders[i - 1], rows, pool).ok());
  }
  ASSERT_TRUE((*pieces)->Finish(pool).ok());
  EXPECT_EQ(ProductOfRows(**pieces, x, 0, c.rows, pool), ProductOfRows(*whole, x, 0, c.rows, pool));
}

TEST(ProductTest, RowsPackedInOddPiecesGiveTheSameMatrix) {
  ExpectSameFromPieces(ProductKind::kOwn);
  ExpectSameFromPieces(ProductKind::kOneDnn);
}

TEST(ProductTest, AOneDnnWeightThatLacksRowsIsRefused) {
  ThreadPool pool(1);
  auto matrix = PackedMatrix::Create(8, 4, DType::kF32, ProductKind::kOneDnn);
  ASSERT_TRUE(matrix.ok());
  std::vector<std::byte> bytes(5 * 4 * 4);
  ASSERT_TRUE((*matrix)->PackRows(0, {bytes.data(), 5, 4, 16, DType::kF32}, pool).ok());
  EXPECT_EQ((*matrix)->Finish(pool).code(), absl::StatusCode::kFailedPrecondition);
}

TEST(ProductTest, ReadRowReturnsTheStoredWeights) {
  for (DType storage : {DType::kBF16, DType::kF32}) {
    ProductCase c = {1, 75, 130, DType::kF16, storage, 25};
    ThreadPool pool(1);
    std::vector<float> weights = Weights(c);
    std::unique_ptr<PackedMatrix> matrix = Packed(c, weights, pool, ProductKind::kOwn);
    std::vector<float> kept = RoundedTo(storage, RoundedTo(c.file, weights));
    std::vector<float> row(c.in_features);
    for (int64_t n = 0; n < c.out_features; ++n) {
      matrix->ReadRow(n, row.data());
      ASSERT_EQ(row, std::vector<float>(kept.begin() + n * c.in_features,
                                        kept.begin() + (n + 1) * c.in_features));
    }
  }
}

TEST(ProductTest, WeightThatIsNotFiniteIsRefusedWithItsPlace) {
  for (DType file : {DType::kBF16, DType::kF16, DType::kF32}) {
    for (float bad :
         {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
      std::vector<float> weights = RandomNormal(70 * 90, 26);
      std::vector<std::byte> bytes = Encode(file, weights);
      std::vector<std::byte> poison(SizeOf(file));
      if (file == DType::kF32) {
        std::memcpy(poison.data(), &bad, 4);
      } else {
        uint16_t bits = file == DType::kBF16 ? FloatToBf16(bad) : std::isnan(bad) ? 0x7e00 : 0xfc00;
        std::memcpy(poison.data(), &bits, 2);
      }
      std::memcpy(bytes.data() + (66 * 90 + 89) * SizeOf(file), poison.data(), poison.size());
      ThreadPool pool(2);
      for (auto [storage, kind] :
           {std::pair(DType::kBF16, ProductKind::kOwn), std::pair(DType::kF32, ProductKind::kOwn),
            std::pair(DType::kBF16, ProductKind::kOneDnn)}) {
        auto matrix = PackedMatrix::Create(70, 90, storage, kind);
        ASSERT_TRUE(matrix.ok());
        int64_t stride = 90 * static_cast<int64_t>(SizeOf(file));
        absl::Status status = (*matrix)->PackRows(0, {bytes.data(), 70, 90, stride, file}, pool);
        EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
        EXPECT_NE(std::string(status.message()).find("row 66, column 89"), std::string::npos)
            << status;
      }
    }
  }
}

TEST(ProductTest, ShapesThatDoNotFitAreRefused) {
  ThreadPool pool(1);
  EXPECT_FALSE(PackedMatrix::Create(0, 4, DType::kF32).ok());
  EXPECT_FALSE(PackedMatrix::Create(4, 4, DType::kF16).ok());
  auto matrix = PackedMatrix::Create(8, 4, DType::kF32, ProductKind::kOwn);
  ASSERT_TRUE(matrix.ok());
  std::vector<std::byte> bytes(8 * 4 * 4);
  WeightRows rows = {bytes.data(), 8, 4, 16, DType::kF32};
  EXPECT_EQ((*matrix)->PackRows(1, rows, pool).code(), absl::StatusCode::kInvalidArgument);
  rows.cols = 3;
  EXPECT_EQ((*matrix)->PackRows(0, rows, pool).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace lockstep::kernels
