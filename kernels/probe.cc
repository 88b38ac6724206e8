// Read and product probes.
#include "kernels/probe.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace lockstep::kernels {
namespace {

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// A stream reads this much in a row, as the product does of a panel.
constexpr int64_t kRun = int64_t{128} << 10;
constexpr int kMostStreams = 32;

enum class Hint { kNone, kNear, kOnce };

// A cache line, as one machine-independent vector.
using Line = uint64_t __attribute__((vector_size(64)));

template <int kStreams, Hint kHint, int kAhead>
uint64_t Read(const std::byte* data, int64_t bytes) {
  Line sum = {};
  for (int64_t base = 0; base + kStreams * kRun <= bytes; base += kStreams * kRun) {
    for (int64_t i = 0; i < kRun; i += 64) {
#pragma GCC unroll 32
      for (int s = 0; s < kStreams; ++s) {
        const std::byte* from = data + base + s * kRun + i;
        if (kHint == Hint::kNear) __builtin_prefetch(from + kAhead, 0, 3);
        if (kHint == Hint::kOnce) __builtin_prefetch(from + kAhead, 0, 0);
        sum ^= *reinterpret_cast<const Line*>(from);
      }
    }
  }
  uint64_t all = 0;
  for (int i = 0; i < 8; ++i) all ^= sum[i];
  return all;
}

struct Way {
  const char* name;
  uint64_t (*read)(const std::byte* data, int64_t bytes);
};

constexpr Way kWays[] = {
    {"1 stream, no prefetch", &Read<1, Hint::kNone, 0>},
    {"4 streams, no prefetch", &Read<4, Hint::kNone, 0>},
    {"8 streams, no prefetch", &Read<8, Hint::kNone, 0>},
    {"16 streams, no prefetch", &Read<16, Hint::kNone, 0>},
    {"32 streams, no prefetch", &Read<32, Hint::kNone, 0>},
    {"4 streams, prefetch 512 bytes ahead", &Read<4, Hint::kNear, 512>},
    {"16 streams, prefetch 256 bytes ahead", &Read<16, Hint::kNear, 256>},
    {"8 streams, prefetch 1536 bytes ahead", &Read<8, Hint::kNear, 1536>},
    {"16 streams, prefetch 1 KiB ahead", &Read<16, Hint::kNear, 1024>},
    {"16 streams, prefetch 1536 bytes ahead", &Read<16, Hint::kNear, 1536>},
    {"16 streams, prefetch 2 KiB ahead", &Read<16, Hint::kNear, 2048>},
    {"4 streams, non-temporal prefetch 1 KiB ahead", &Read<4, Hint::kOnce, 1024>},
    {"4 streams, non-temporal prefetch 2 KiB ahead", &Read<4, Hint::kOnce, 2048>},
};

// Keeps the compiler from dropping the reads.
std::atomic<uint64_t> sink{0};

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

}  // namespace

absl::StatusOr<std::unique_ptr<ReadProbe>> ReadProbe::Create(int64_t bytes, ThreadPool& pool) {
  // One pass of a way reads whole rounds of all its streams on every member.
  int64_t slice = kMostStreams * kRun * pool.size();
  LOCKSTEP_ASSIGN_OR_RETURN(HugeBuffer buffer,
                            HugeBuffer::Allocate(std::max(slice, bytes / slice * slice)));
  std::memset(buffer.data(), 1, buffer.size());
  auto probe = std::unique_ptr<ReadProbe>(new ReadProbe(std::move(buffer), slice));
  constexpr int kRounds = 11;
  std::vector<double> rates[std::size(kWays)];
  for (int round = 0; round < kRounds; ++round) {
    for (size_t way = 0; way < std::size(kWays); ++way) {
      rates[way].push_back(probe->MeasureWay(way, slice, pool));
    }
  }
  double best = 0;
  for (size_t way = 0; way < std::size(kWays); ++way) {
    double rate = Median(rates[way]);
    if (rate > best) probe->way_ = way;
    best = std::max(best, rate);
  }
  return probe;
}

double ReadProbe::Measure(int64_t bytes, ThreadPool& pool) { return MeasureWay(way_, bytes, pool); }

std::string ReadProbe::way() const { return kWays[way_].name; }

double ReadProbe::MeasureWay(size_t way, int64_t bytes, ThreadPool& pool) {
  bytes = std::clamp(bytes / slice_bytes_ * slice_bytes_, slice_bytes_, buffer_.size());
  if (next_ + bytes > buffer_.size()) next_ = 0;
  const std::byte* data = buffer_.data() + next_;
  next_ += bytes;
  double start = Now();
  pool.ParallelFor(bytes, bytes / pool.size(), [&](int64_t begin, int64_t end) {
    sink ^= kWays[way].read(data + begin, end - begin);
  });
  return static_cast<double>(bytes) / (Now() - start);
}

absl::StatusOr<double> ReadBandwidth(int64_t bytes, ThreadPool& pool) {
  LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<ReadProbe> probe, ReadProbe::Create(bytes, pool));
  std::vector<double> rates;
  for (int i = 0; i < 15; ++i) rates.push_back(probe->Measure(bytes / 8, pool));
  return Median(rates);
}

absl::StatusOr<std::unique_ptr<ProductProbe>> ProductProbe::Create(
    ProductKind kind, DType storage, int64_t rows, int64_t out_features, int64_t in_features,
    int64_t footprint_bytes, ThreadPool& pool) {
  auto probe = std::unique_ptr<ProductProbe>(new ProductProbe());
  probe->rows_ = rows;
  // One row of small, varied numbers serves as every row of every weight.
  std::vector<uint16_t> row(in_features);
  for (int64_t k = 0; k < in_features; ++k) {
    row[k] = FloatToBf16(0.01f * static_cast<float>(k % 13 - 6));
  }
  WeightRows rows_of_one = {reinterpret_cast<const std::byte*>(row.data()), out_features,
                            in_features, 0, DType::kBF16};
  int64_t bytes_each = out_features * in_features * static_cast<int64_t>(SizeOf(storage));
  int64_t copies = std::max<int64_t>(1, (footprint_bytes + bytes_each - 1) / bytes_each);
  for (int64_t i = 0; i < copies; ++i) {
    LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<PackedMatrix> weight,
                              PackedMatrix::Create(out_features, in_features, storage, kind));
    LOCKSTEP_RETURN_IF_ERROR(weight->PackRows(0, rows_of_one, pool));
    LOCKSTEP_RETURN_IF_ERROR(weight->Finish(pool));
    probe->weights_.push_back(std::move(weight));
  }
  LOCKSTEP_ASSIGN_OR_RETURN(probe->x_, HugeBuffer::Allocate(rows * in_features * 4));
  LOCKSTEP_ASSIGN_OR_RETURN(probe->y_, HugeBuffer::Allocate(rows * out_features * 4));
  for (int64_t i = 0; i < rows * in_features; ++i) {
    probe->x_.as<float>()[i] = 0.1f * static_cast<float>(i % 11 - 5);
  }
  // The first product touches y and compiles what oneDNN compiles.
  probe->Measure(pool);
  return probe;
}

double ProductProbe::Measure(ThreadPool& pool) {
  const PackedMatrix& weight = *weights_[next_];
  next_ = (next_ + 1) % weights_.size();
  double start = Now();
  weight.Product({x_.as<float>(), rows_, weight.in_features()},
                 {y_.as<float>(), rows_, weight.out_features()}, pool);
  return Now() - start;
}

int64_t ProductProbe::weight_bytes() const {
  const PackedMatrix& weight = *weights_[0];
  return weight.out_features() * weight.in_features() *
         static_cast<int64_t>(SizeOf(weight.storage()));
}

double ProductProbe::operations() const {
  const PackedMatrix& weight = *weights_[0];
  return 2.0 * static_cast<double>(rows_) * static_cast<double>(weight.out_features()) *
         static_cast<double>(weight.in_features());
}

absl::StatusOr<double> ProductRate(ProductKind kind, DType storage, int64_t rows,
                                   int64_t out_features, int64_t in_features, int runs,
                                   ThreadPool& pool) {
  LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<ProductProbe> probe,
                            ProductProbe::Create(kind, storage, rows, out_features, in_features,
                                                 /*footprint_bytes=*/0, pool));
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < runs; ++i) best = std::min(best, probe->Measure(pool));
  return probe->operations() / best;
}

}  // namespace lockstep::kernels
