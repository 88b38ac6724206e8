// What every transport promises, with each rank a process of its own; and what remains of them.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "worker/collective/best_median.h"
#include "worker/collective/collective.h"
#include "worker/collective/peer_process.h"
#include "worker/collective/thread_group.h"

namespace lockstep::worker {
namespace {

std::vector<PeerProcess> StartPeers(Transport transport, int size, const std::string& scenario) {
  std::vector<PeerProcess> peers;
  for (int rank = 0; rank < size; ++rank) {
    peers.emplace_back(PeerFlags(transport, rank, size, scenario));
  }
  return peers;
}

/// The path of the segment that a shared-memory address names.
std::string SegmentPath(const std::string& address) {
  for (absl::string_view word : absl::StrSplit(address, ' ')) {
    if (absl::StartsWith(word, "segment=")) {
      return absl::StrCat("/dev/shm/lockstep-", geteuid(), "-", word.substr(8));
    }
  }
  ADD_FAILURE() << "no segment in " << address;
  return "";
}

using GroupOfProcesses = testing::TestWithParam<std::tuple<Transport, int>>;

TEST_P(GroupOfProcesses, GivesTheRightResultsForRandomOperationsAndSizes) {
  auto [transport, size] = GetParam();
  std::vector<PeerProcess> peers = StartPeers(transport, size, "operations");
  ConnectPeers(peers);
  for (PeerProcess& peer : peers) EXPECT_EQ(peer.ReadLine(), "OK");
}

INSTANTIATE_TEST_SUITE_P(Groups, GroupOfProcesses,
                         testing::Combine(testing::Values(Transport::kShm, Transport::kTcp),
                                          testing::Values(2, 3, 4, 8)),
                         [](const auto& info) {
                           return Name(std::get<0>(info.param)) +
                                  std::to_string(std::get<1>(info.param));
                         });

using OneTransport = testing::TestWithParam<Transport>;

TEST_P(OneTransport, NamesTheKilledRankWithin100Milliseconds) {
  constexpr absl::Duration kPromise = absl::Milliseconds(100);
  auto trial = [&] {
    std::vector<PeerProcess> peers = StartPeers(GetParam(), 3, "all_reduce");
    ConnectPeers(peers);
    absl::Time killed = absl::Now();
    peers[1].Kill();
    for (int rank : {0, 2}) {
      std::string line = peers[rank].ReadLine();
      EXPECT_TRUE(absl::StartsWith(line, "UNAVAILABLE: rank 1 of group test is gone")) << line;
    }
    return absl::Now() - killed;
  };
  EXPECT_LT(BestMedian(kPromise, trial), kPromise);
}

INSTANTIATE_TEST_SUITE_P(Transports, OneTransport,
                         testing::Values(Transport::kShm, Transport::kTcp),
                         [](const auto& info) { return Name(info.param); });

TEST(ShmGroupOfProcesses, LeavesNoFileOnceConnectedEvenWhenAllAreKilled) {
  std::vector<PeerProcess> peers = StartPeers(Transport::kShm, 3, "all_reduce");
  std::vector<std::string> addresses;
  for (PeerProcess& peer : peers) addresses.push_back(peer.ReadLine());
  for (PeerProcess& peer : peers) peer.WriteLines(addresses);
  for (PeerProcess& peer : peers) EXPECT_EQ(peer.ReadLine(), "connected");
  for (PeerProcess& peer : peers) peer.Kill();
  for (const std::string& address : addresses) {
    EXPECT_FALSE(std::filesystem::exists(SegmentPath(address)));
  }
}

TEST(ShmGroupOfProcesses, LeavesNoFileOfAGroupOfOneOnceConnected) {
  PeerProcess peer(PeerFlags(Transport::kShm, 0, 1, "idle"));
  std::string address = peer.ReadLine();
  peer.WriteLines({address});
  EXPECT_EQ(peer.ReadLine(), "connected");
  EXPECT_FALSE(std::filesystem::exists(SegmentPath(address)));
}

TEST(ShmGroupOfProcesses, SegmentOfARankKilledBeforeConnectIsRemovedByTheNextSetup) {
  PeerProcess peer(PeerFlags(Transport::kShm, 0, 2, "all_reduce"));
  std::string path = SegmentPath(peer.ReadLine());
  EXPECT_TRUE(std::filesystem::exists(path));
  {
    auto setup = MakeShmSetup({.epoch = 7, .group = "other", .rank = 0, .size = 1}, 1);
    EXPECT_TRUE(std::filesystem::exists(path)) << "a living rank's segment must stay";
  }
  peer.Kill();
  auto setup = MakeShmSetup({.epoch = 7, .group = "other", .rank = 0, .size = 1}, 1);
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(ShmGroupOfProcesses, ConnectNamesARankThatDiedBeforeItsPeersMappedIt) {
  std::vector<PeerProcess> peers = StartPeers(Transport::kShm, 2, "all_reduce");
  std::vector<std::string> addresses = {peers[0].ReadLine(), peers[1].ReadLine()};
  peers[1].Kill();
  peers[0].WriteLines(addresses);
  std::string line = peers[0].ReadLine();
  EXPECT_TRUE(absl::StartsWith(line, "UNAVAILABLE: rank 1 of group test is gone")) << line;
  for (const std::string& address : addresses) {
    EXPECT_FALSE(std::filesystem::exists(SegmentPath(address)));
  }
}

TEST(ShmDomain, IsTheSameForAllWhoAskAtOnce) {
  std::vector<absl::StatusOr<std::string>> nonces(8);
  InThreads(8, [&](int i) { nonces[i] = ShmDomain(); });
  for (const auto& nonce : nonces) {
    ASSERT_TRUE(nonce.ok()) << nonce.status();
    EXPECT_EQ(*nonce, *nonces[0]);
    EXPECT_EQ(nonce->size(), 32u);
  }
}

}  // namespace
}  // namespace lockstep::worker
