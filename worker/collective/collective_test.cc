// What every transport promises, with the ranks as threads of one process. With processes:
// collective_process_test.
#include "worker/collective/collective.h"

#include <gtest/gtest.h>

#include <tuple>

#include "worker/collective/operations_check.h"
#include "worker/collective/thread_group.h"

namespace lockstep::worker {
namespace {

constexpr int64_t kCapacity = 300'000;

class EveryTransport : public testing::TestWithParam<std::tuple<Transport, int>> {
 protected:
  Transport transport() const { return std::get<0>(GetParam()); }
  int size() const { return std::get<1>(GetParam()); }
  std::vector<std::unique_ptr<Collective>> Connect() {
    return ConnectInThreads(transport(), size(), kCapacity);
  }
};

TEST_P(EveryTransport, GivesTheRightResultsForRandomOperationsAndSizes) {
  auto group = Connect();
  InThreads(size(), [&](int rank) {
    ASSERT_NE(group[rank], nullptr);
    absl::Status status = CheckOperations(*group[rank], /*seed=*/41, /*rounds=*/120, kCapacity);
    EXPECT_TRUE(status.ok()) << "rank " << rank << ": " << status;
  });
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

TEST(SoloCollective, GivesTheRightResultsForRandomOperationsAndSizes) {
  auto solo = MakeSoloCollective();
  absl::Status status = CheckOperations(*solo, /*seed=*/42, /*rounds=*/120, kCapacity);
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace lockstep::worker
