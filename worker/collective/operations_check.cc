// See operations_check.h.
#include "worker/collective/operations_check.h"

#include <bit>
#include <cmath>
#include <random>
#include <span>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "worker/collective/sum.h"

namespace lockstep::worker {
namespace {

/// SplitMix64's finaliser (Steele, Lea and Flood 2014): a cheap hash of a counter.
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

uint64_t Key(uint64_t seed, int rank, int64_t i) {
  return Mix(Mix(seed * 0x9e3779b97f4a7c15ull + static_cast<uint64_t>(rank)) +
             static_cast<uint64_t>(i));
}

std::byte TestByte(uint64_t seed, int rank, size_t i) {
  return static_cast<std::byte>(Key(seed, rank, static_cast<int64_t>(i)) >> 40);
}

std::vector<std::byte> TestBytes(uint64_t seed, int rank, size_t count) {
  std::vector<std::byte> bytes(count);
  for (size_t i = 0; i < count; ++i) bytes[i] = TestByte(seed, rank, i);
  return bytes;
}

absl::Status CheckBytes(const char* what, std::span<const std::byte> found, uint64_t seed,
                        int rank) {
  for (size_t i = 0; i < found.size(); ++i) {
    if (found[i] == TestByte(seed, rank, i)) continue;
    return absl::DataLossError(
        absl::StrCat(what, ": byte ", i, " of ", found.size(), " from rank ", rank, " is wrong"));
  }
  return absl::OkStatus();
}

absl::Status CheckFloats(const char* what, std::span<const float> found, uint64_t seed, int size,
                         int64_t first) {
  for (size_t j = 0; j < found.size(); ++j) {
    int64_t i = first + static_cast<int64_t>(j);
    float in_order = TestAddend(seed, 0, i);
    double exact = in_order;
    double magnitude = std::abs(exact);
    for (int rank = 1; rank < size; ++rank) {
      in_order += TestAddend(seed, rank, i);
      exact += TestAddend(seed, rank, i);
      magnitude += std::abs(TestAddend(seed, rank, i));
    }
    bool same_bits = std::bit_cast<uint32_t>(in_order) == std::bit_cast<uint32_t>(found[j]);
    // Each of size - 1 additions rounds by at most 2^-24 of a partial sum.
    if (same_bits && std::abs(found[j] - exact) <= (size - 1) * 0x1p-24 * magnitude) continue;
    return absl::DataLossError(absl::StrCat(what, ": element ", i, " is ", found[j],
                                            "; in rank order ", in_order, ", exact ", exact));
  }
  return absl::OkStatus();
}

absl::Status WriteAddend(Collective& collective, uint64_t seed, int64_t count) {
  LOCKSTEP_ASSIGN_OR_RETURN(std::span<float> addend, collective.Addend(count));
  if (reinterpret_cast<uintptr_t>(addend.data()) % 64 != 0) {
    return absl::InternalError("Addend is not 64-byte aligned");
  }
  for (int64_t i = 0; i < count; ++i) addend[i] = TestAddend(seed, collective.rank(), i);
  return absl::OkStatus();
}

absl::Status CheckReduceScatter(Collective& collective, uint64_t seed, int64_t count) {
  LOCKSTEP_RETURN_IF_ERROR(WriteAddend(collective, seed, count));
  Slice mine = SliceOf(count, collective.rank(), collective.size());
  std::vector<float> out(static_cast<size_t>(mine.count()));
  LOCKSTEP_RETURN_IF_ERROR(collective.ReduceScatterSum(out));
  return CheckFloats("ReduceScatterSum", out, seed, collective.size(), mine.begin);
}

absl::Status CheckAllGather(Collective& collective, uint64_t seed, size_t count) {
  std::vector<std::byte> all(count * static_cast<size_t>(collective.size()));
  LOCKSTEP_RETURN_IF_ERROR(collective.AllGather(TestBytes(seed, collective.rank(), count), all));
  for (int rank = 0; rank < collective.size(); ++rank) {
    std::span<const std::byte> theirs = std::span(all).subspan(rank * count, count);
    LOCKSTEP_RETURN_IF_ERROR(CheckBytes("AllGather", theirs, seed, rank));
  }
  return absl::OkStatus();
}

absl::Status CheckBroadcast(Collective& collective, uint64_t seed, size_t count, int root) {
  std::vector<std::byte> data = TestBytes(seed, collective.rank(), count);
  LOCKSTEP_RETURN_IF_ERROR(collective.Broadcast(data, root));
  return CheckBytes("Broadcast", data, seed, root);
}

/// Everybody first sends to everybody, then receives: must not lock up, however large.
absl::Status CheckSendReceive(Collective& collective, uint64_t seed, size_t count) {
  int self = collective.rank();
  for (int peer = 0; peer < collective.size(); ++peer) {
    if (peer == self) continue;
    LOCKSTEP_RETURN_IF_ERROR(collective.Send(peer, TestBytes(seed + peer, self, count)));
    LOCKSTEP_RETURN_IF_ERROR(collective.Send(peer, TestBytes(seed, self, 3)));
  }
  for (int peer = 0; peer < collective.size(); ++peer) {
    if (peer == self) continue;
    std::vector<std::byte> large(count), small(3);
    LOCKSTEP_RETURN_IF_ERROR(collective.Receive(peer, large));
    LOCKSTEP_RETURN_IF_ERROR(CheckBytes("Receive", large, seed + self, peer));
    LOCKSTEP_RETURN_IF_ERROR(collective.Receive(peer, small));
    LOCKSTEP_RETURN_IF_ERROR(CheckBytes("Receive", small, seed, peer));
  }
  return absl::OkStatus();
}

}  // namespace

float TestAddend(uint64_t seed, int rank, int64_t i) {
  uint64_t bits = Key(seed, rank, i);
  float unit = static_cast<float>(static_cast<int32_t>(bits)) * 0x1p-31f;
  return std::ldexp(unit, static_cast<int>(bits >> 60) - 6);
}

std::vector<float> RankOrderSum(uint64_t seed, int size, int64_t count) {
  std::vector<float> sum(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    sum[i] = TestAddend(seed, 0, i);
    for (int rank = 1; rank < size; ++rank) sum[i] += TestAddend(seed, rank, i);
  }
  return sum;
}

absl::Status CheckAllReduce(Collective& collective, uint64_t seed, int64_t count) {
  LOCKSTEP_RETURN_IF_ERROR(WriteAddend(collective, seed, count));
  std::vector<float> out(static_cast<size_t>(count), std::nanf(""));
  LOCKSTEP_RETURN_IF_ERROR(collective.AllReduceSum(out));
  return CheckFloats("AllReduceSum", out, seed, collective.size(), 0);
}

absl::Status CheckOperations(Collective& collective, uint64_t seed, int rounds, int64_t max_count) {
  std::mt19937_64 random(seed);
  for (int round = 0; round < rounds; ++round) {
    uint64_t data_seed = random();
    uint64_t kind = random() % 6;
    // Sizes spread over the orders of magnitude, 0 and the largest among them.
    double exponent = static_cast<double>(random() % 1001) / 1000;
    int64_t count =
        static_cast<int64_t>(std::pow(static_cast<double>(max_count + 1), exponent)) - 1;
    int root = static_cast<int>(random() % static_cast<uint64_t>(collective.size()));
    size_t bytes = static_cast<size_t>(count);
    absl::Status status;
    if (kind <= 1) status = CheckAllReduce(collective, data_seed, count);
    if (kind == 2) status = CheckReduceScatter(collective, data_seed, count);
    if (kind == 3) status = CheckAllGather(collective, data_seed, bytes);
    if (kind == 4) status = CheckBroadcast(collective, data_seed, bytes, root);
    if (kind == 5) status = CheckSendReceive(collective, data_seed, bytes);
    if (!status.ok()) {
      return absl::Status(status.code(),
                          absl::StrCat("round ", round, ", size ", count, ": ", status.message()));
    }
  }
  return absl::OkStatus();
}

}  // namespace lockstep::worker
