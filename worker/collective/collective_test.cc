// What every transport promises, with the ranks as threads of one process. With processes:
// collective_process_test.
#include "worker/collective/collective.h"

#include <gtest/gtest.h>

#include <cstring>
#include <tuple>
#include <vector>

#include "worker/collective/operations_check.h"
#include "worker/collective/thread_group.h"

namespace lockstep::worker {
namespace {

constexpr int64_t kCapacity = 140'000;

class EveryTransport : public testing::TestWithParam<std::tuple<Transport, int>> {
 protected:
  Transport transport() const { return std::get<0>(GetParam()); }
  int size() const { return std::get<1>(GetParam()); }
  /// Fewer for large groups, whose threads share the processors.
  int Rounds() const { return 120 / size(); }
  std::vector<std::unique_ptr<Collective>> Connect() {
    return ConnectInThreads(transport(), size(), kCapacity);
  }
};

TEST_P(EveryTransport, GivesTheRightResultsForRandomOperationsAndSizes) {
  auto group = Connect();
  InThreads(size(), [&](int rank) {
    ASSERT_NE(group[rank], nullptr);
    absl::Status status = CheckOperations(*group[rank], /*seed=*/41, Rounds(), kCapacity);
    EXPECT_TRUE(status.ok()) << "rank " << rank << ": " << status;
  });
}

TEST_P(EveryTransport, AddsTheFirstAndTheLastCountOfEachWayOfReducing) {
  auto group = Connect();
  InThreads(size(), [&](int rank) {
    ASSERT_NE(group[rank], nullptr);
    for (int64_t count : {0, 1, 2, 7, 8, 16383, 16384, 16385, 65536, 65537, 131073}) {
      absl::Status status = CheckAllReduce(*group[rank], /*seed=*/count + 1, count);
      EXPECT_TRUE(status.ok()) << "count " << count << ", rank " << rank << ": " << status;
    }
  });
}

TEST_P(EveryTransport, RefusesRanksThatAreNotPeersAndKeepsTheRefusal) {
  auto group = Connect();
  for (auto& collective : group) {
    ASSERT_NE(collective, nullptr);
    std::byte data[4] = {};
    EXPECT_EQ(collective->Send(collective->rank(), data).code(),
              absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(collective->Addend(1).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST_P(EveryTransport, RefusesASumWithoutAnAddend) {
  for (auto& collective : Connect()) {
    ASSERT_NE(collective, nullptr);
    EXPECT_TRUE(absl::IsInvalidArgument(collective->AllReduceSum({})));
  }
}

TEST_P(EveryTransport, RefusesAnotherCollectiveWhileAnAddendWaits) {
  for (auto& collective : Connect()) {
    ASSERT_NE(collective, nullptr);
    EXPECT_TRUE(collective->Addend(1).ok());
    std::byte data[1] = {};
    EXPECT_TRUE(absl::IsInvalidArgument(collective->Broadcast(data, 0)));
  }
}

TEST_P(EveryTransport, KnowsItsRankSizeAndKind) {
  auto group = Connect();
  for (int rank = 0; rank < size(); ++rank) {
    ASSERT_NE(group[rank], nullptr);
    EXPECT_EQ(group[rank]->rank(), rank);
    EXPECT_EQ(group[rank]->size(), size());
    EXPECT_EQ(group[rank]->kind(), Name(transport()));
  }
}

INSTANTIATE_TEST_SUITE_P(Groups, EveryTransport,
                         testing::Combine(testing::Values(Transport::kShm, Transport::kTcp),
                                          testing::Values(1, 2, 3, 4, 8)),
                         [](const auto& info) {
                           return Name(std::get<0>(info.param)) +
                                  std::to_string(std::get<1>(info.param));
                         });

class BothTransports : public testing::TestWithParam<Transport> {};

TEST_P(BothTransports, NoticesRanksThatDisagreeAboutTheSize) {
  auto group = ConnectInThreads(GetParam(), 2, kCapacity);
  std::vector<absl::Status> found(2);
  InThreads(2, [&](int rank) { found[rank] = CheckAllReduce(*group[rank], 1, 100 + rank); });
  // A rank that fails may leave before the other has compared.
  EXPECT_TRUE(absl::IsInvalidArgument(found[0]) || absl::IsInvalidArgument(found[1]))
      << found[0] << " and " << found[1];
}

TEST_P(BothTransports, KeepsCollectivesAndMessagesBetweenTheSameRanksApart) {
  auto group = ConnectInThreads(GetParam(), 2, kCapacity);
  InThreads(2, [&](int rank) {
    Collective& self = *group[rank];
    std::vector<std::byte> data(100'000, static_cast<std::byte>(rank));
    absl::Status sent = rank == 0 ? self.Send(1, data) : absl::OkStatus();
    absl::Status reduced = CheckAllReduce(self, 5, 30'000);
    absl::Status received = rank == 1 ? self.Receive(0, data) : absl::OkStatus();
    EXPECT_TRUE(sent.ok() && reduced.ok() && received.ok()) << sent << reduced << received;
    EXPECT_EQ(data.front(), std::byte{0});
  });
}

TEST_P(BothTransports, DeliversWhatARankSentBeforeItLeft) {
  auto group = ConnectInThreads(GetParam(), 2, kCapacity);
  std::vector<std::byte> sent(50'000, std::byte{42}), received(50'000);
  ASSERT_TRUE(group[0]->Send(1, sent).ok());
  group[0].reset();
  EXPECT_TRUE(group[1]->Receive(0, received).ok());
  EXPECT_EQ(received, sent);
  absl::Status after = group[1]->Receive(0, received);
  EXPECT_TRUE(absl::IsUnavailable(after)) << after;
  EXPECT_NE(after.message().find("rank 0"), absl::string_view::npos) << after;
}

INSTANTIATE_TEST_SUITE_P(Transports, BothTransports,
                         testing::Values(Transport::kShm, Transport::kTcp),
                         [](const auto& info) { return Name(info.param); });

TEST(EveryTransportAlike, GivesTheSameBitsForTheSameAddends) {
  constexpr int kSize = 3;
  for (int64_t count : {1000, 20'000, 140'000}) {
    std::vector<std::vector<float>> sums;
    for (Transport transport : {Transport::kShm, Transport::kTcp}) {
      auto group = ConnectInThreads(transport, kSize, kCapacity);
      std::vector<std::vector<float>> out(kSize, std::vector<float>(count));
      InThreads(kSize, [&](int rank) {
        auto addend = group[rank]->Addend(count);
        ASSERT_TRUE(addend.ok()) << addend.status();
        for (int64_t i = 0; i < count; ++i) (*addend)[i] = TestAddend(3, rank, i);
        EXPECT_TRUE(group[rank]->AllReduceSum(out[rank]).ok());
      });
      sums.insert(sums.end(), out.begin(), out.end());
    }
    for (const std::vector<float>& sum : sums) {
      EXPECT_EQ(std::memcmp(sum.data(), sums[0].data(), sum.size() * sizeof(float)), 0);
    }
  }
}

TEST(SoloCollective, RefusesWhatTheOthersRefuse) {
  EXPECT_TRUE(absl::IsInvalidArgument(MakeSoloCollective()->AllReduceSum({})));
  auto solo = MakeSoloCollective();
  EXPECT_TRUE(solo->Addend(1).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(solo->Broadcast({}, 0)));
  auto lonely = MakeSoloCollective();
  EXPECT_TRUE(absl::IsInvalidArgument(lonely->Send(0, {})));
  lonely->Abort("too late");
  EXPECT_TRUE(absl::IsInvalidArgument(lonely->Addend(1).status()));
}

TEST(SoloCollective, GivesTheRightResultsForRandomOperationsAndSizes) {
  auto solo = MakeSoloCollective();
  absl::Status status = CheckOperations(*solo, /*seed=*/42, /*rounds=*/60, kCapacity);
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace lockstep::worker
