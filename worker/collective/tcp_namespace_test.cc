// TCP between two real network namespaces joined by a veth pair, with addresses of their own: the
// nearest thing to two machines on one. Needs root and `ip`.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "worker/collective/peer_process.h"

namespace lockstep::worker {
namespace {

bool Shell(const std::string& command) { return std::system(command.c_str()) == 0; }

/// Namespaces A and B with 10.213.0.1 and 10.213.0.2; removed at the end. Names carry the process
/// id, so that runs do not meet.
class TcpBetweenNamespaces : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    if (!Shell("ip -V >/dev/null 2>&1")) GTEST_SKIP() << "needs ip, of the package iproute2";
    ASSERT_TRUE(Shell(absl::StrCat("ip netns add ", a_, " && ip netns add ", b_)));
    ASSERT_TRUE(
        Shell(absl::StrCat("ip -n ", a_, " link add veth0 type veth peer name veth0 netns ", b_)));
    for (const std::string& name : {a_, b_}) {
      ASSERT_TRUE(Shell(absl::StrCat("ip -n ", name, " addr add ", AddressOf(name),
                                     "/24 dev veth0 && ip -n ", name, " link set veth0 up")));
    }
  }
  void TearDown() override {
    // Fails for what SetUp did not get to make, which it has reported already.
    for (const std::string& name : {a_, b_}) Shell(absl::StrCat("ip netns del ", name, " 2>&1"));
  }

  std::string AddressOf(const std::string& name) const {
    return name == a_ ? "10.213.0.1" : "10.213.0.2";
  }

  /// Rank r in A if r is even, else in B.
  std::vector<PeerProcess> StartPeers(int size, const std::string& scenario) {
    std::vector<PeerProcess> peers;
    for (int rank = 0; rank < size; ++rank) {
      const std::string& name = rank % 2 == 0 ? a_ : b_;
      std::vector<std::string> flags = PeerFlags(Transport::kTcp, rank, size, scenario);
      flags.push_back(absl::StrCat("--interface_address=", AddressOf(name)));
      peers.emplace_back(flags, std::vector<std::string>{"ip", "netns", "exec", name});
    }
    return peers;
  }

  const std::string a_ = absl::StrCat("lockstep-a", getpid());
  const std::string b_ = absl::StrCat("lockstep-b", getpid());
};

TEST_F(TcpBetweenNamespaces, GivesTheRightResultsForRandomOperationsAndSizes) {
  std::vector<PeerProcess> peers = StartPeers(2, "operations");
  ConnectPeers(peers);
  for (PeerProcess& peer : peers) EXPECT_EQ(peer.ReadLine(), "OK");
}

TEST_F(TcpBetweenNamespaces, NamesAKilledRankOfTheOtherSide) {
  std::vector<PeerProcess> peers = StartPeers(2, "all_reduce");
  ConnectPeers(peers);
  peers[1].Kill();
  std::string line = peers[0].ReadLine();
  EXPECT_TRUE(absl::StartsWith(line, "UNAVAILABLE: rank 1 of group test is gone")) << line;
}

}  // namespace
}  // namespace lockstep::worker
