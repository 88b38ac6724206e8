// Abort from another thread, whatever the peers are doing: 10 ms is the promise.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "worker/collective/best_median.h"
#include "worker/collective/collective.h"
#include "worker/collective/operations_check.h"
#include "worker/collective/peer_process.h"
#include "worker/collective/thread_group.h"

namespace lockstep::worker {
namespace {

constexpr absl::Duration kPromise = absl::Milliseconds(10);

/// A thread whose call blocks; tells when it sleeps and when and how it returned.
class BlockedCall {
 public:
  explicit BlockedCall(std::function<absl::Status()> call)
      : thread_([this, call = std::move(call)] {
          tid_ = gettid();
          status_ = call();
          returned_ = absl::Now();
        }) {}

  /// Waits until the kernel says that the thread sleeps, not merely spins.
  void WaitUntilAsleep() {
    absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (absl::Now() < deadline && !IsAsleep()) std::this_thread::yield();
    EXPECT_TRUE(IsAsleep());
  }
  void WaitUntilBegun() {
    while (tid_ == 0) std::this_thread::yield();
  }
  absl::Status Join() {
    thread_.join();
    return status_;
  }
  absl::Time returned() const { return returned_; }

 private:
  bool IsAsleep() const {
    if (tid_ == 0) return false;
    std::ifstream file(absl::StrCat("/proc/self/task/", tid_.load(), "/stat"));
    std::string line;
    std::getline(file, line);
    return absl::StrContains(line, ") S ");
  }

  std::atomic<pid_t> tid_ = 0;
  absl::Status status_;
  absl::Time returned_;
  std::thread thread_;
};

/// Rank 0 in this process, rank 1 in another.
struct MixedPair {
  std::unique_ptr<CollectiveSetup> setup;
  PeerProcess peer;
  std::unique_ptr<Collective> collective;
};

MixedPair ConnectMixedPair(Transport transport, const std::string& scenario) {
  auto setup = MakeSetup(transport, {.epoch = 7, .group = "test", .rank = 0, .size = 2}, 140'000);
  EXPECT_TRUE(setup.ok()) << setup.status();
  MixedPair pair = {*std::move(setup), PeerProcess(PeerFlags(transport, 1, 2, scenario)), nullptr};
  std::vector<std::string> addresses = {pair.setup->address(), pair.peer.ReadLine()};
  pair.peer.WriteLines(addresses);
  auto collective = pair.setup->Connect(addresses, absl::Now() + absl::Seconds(30));
  EXPECT_TRUE(collective.ok()) << collective.status();
  pair.collective = *std::move(collective);
  EXPECT_EQ(pair.peer.ReadLine(), "connected");
  return pair;
}

absl::Status AllReduceUntilFailure(Collective& collective) {
  uint64_t seed = 1;
  while (true) {
    absl::Status status = CheckAllReduce(collective, seed++, 2048);
    if (!status.ok()) return status;
  }
}

/// Sends more than any buffer holds.
absl::Status SendMuch(Collective& collective) {
  static const std::vector<std::byte> kMuch(64 << 20);
  return collective.Send(1, kMuch);
}

absl::Status ReceiveNothing(Collective& collective) {
  std::byte byte;
  return collective.Receive(1, {&byte, 1});
}

struct AbortCase {
  Transport transport;
  std::string operation;
  std::string peer_scenario;
  absl::Status (*call)(Collective&);

  friend void PrintTo(const AbortCase& the_case, std::ostream* out) {
    *out << Name(the_case.transport) << " " << the_case.operation;
  }
};

class Abort : public testing::TestWithParam<AbortCase> {};

TEST_P(Abort, ReturnsWithin10MillisecondsWhileThePeerIsStopped) {
  auto trial = [&] {
    MixedPair pair = ConnectMixedPair(GetParam().transport, GetParam().peer_scenario);
    pair.peer.Stop();
    BlockedCall call([&] { return GetParam().call(*pair.collective); });
    call.WaitUntilAsleep();
    absl::Time aborted = absl::Now();
    pair.collective->Abort("the epoch is over");
    absl::Status status = call.Join();
    EXPECT_EQ(status, absl::AbortedError("the epoch is over"));
    EXPECT_EQ(pair.collective->Addend(1).status(), status);
    return call.returned() - aborted;
  };
  EXPECT_LT(BestMedian(kPromise, trial), kPromise);
}

TEST_P(Abort, ThatMeetsAKilledPeerReturnsAbortedOrUnavailableWithin10Milliseconds) {
  auto trial = [&] {
    MixedPair pair = ConnectMixedPair(GetParam().transport, GetParam().peer_scenario);
    BlockedCall call([&] { return GetParam().call(*pair.collective); });
    call.WaitUntilBegun();
    pair.peer.Kill();
    absl::Time aborted = absl::Now();
    pair.collective->Abort("the epoch is over");
    absl::Status status = call.Join();
    EXPECT_TRUE(absl::IsAborted(status) || absl::IsUnavailable(status)) << status;
    return std::max(absl::ZeroDuration(), call.returned() - aborted);
  };
  EXPECT_LT(BestMedian(kPromise, trial), kPromise);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, Abort,
    testing::Values(AbortCase{Transport::kShm, "AllReduce", "all_reduce", AllReduceUntilFailure},
                    AbortCase{Transport::kTcp, "AllReduce", "all_reduce", AllReduceUntilFailure},
                    AbortCase{Transport::kShm, "Send", "idle", SendMuch},
                    AbortCase{Transport::kTcp, "Send", "idle", SendMuch},
                    AbortCase{Transport::kShm, "Receive", "idle", ReceiveNothing},
                    AbortCase{Transport::kTcp, "Receive", "idle", ReceiveNothing}),
    [](const auto& info) { return Name(info.param.transport) + info.param.operation; });

class BothTransports : public testing::TestWithParam<Transport> {
 protected:
  std::unique_ptr<CollectiveSetup> Make(int rank, int size) {
    auto setup =
        MakeSetup(GetParam(), {.epoch = 7, .group = "test", .rank = rank, .size = size}, 1000);
    EXPECT_TRUE(setup.ok()) << setup.status();
    return *std::move(setup);
  }
};

TEST_P(BothTransports, AbortOfConnectReturnsWithin10Milliseconds) {
  auto trial = [&] {
    auto mine = Make(0, 2), theirs = Make(1, 2);
    std::vector<std::string> addresses = {mine->address(), theirs->address()};
    BlockedCall call([&] { return mine->Connect(addresses, absl::InfiniteFuture()).status(); });
    call.WaitUntilAsleep();
    absl::Time aborted = absl::Now();
    mine->Abort("the epoch is over");
    EXPECT_EQ(call.Join(), absl::AbortedError("the epoch is over"));
    return call.returned() - aborted;
  };
  EXPECT_LT(BestMedian(kPromise, trial), kPromise);
}

TEST_P(BothTransports, AbortOfTheSetupAfterConnectAbortsTheCollective) {
  auto mine = Make(0, 1);
  std::vector<std::string> addresses = {mine->address()};
  auto collective = mine->Connect(addresses, absl::InfiniteFuture());
  ASSERT_TRUE(collective.ok()) << collective.status();
  mine->Abort("the epoch is over");
  EXPECT_EQ((*collective)->Addend(1).status(), absl::AbortedError("the epoch is over"));
}

TEST_P(BothTransports, APeerThatAbortsMakesTheOthersUnavailable) {
  auto group = ConnectInThreads(GetParam(), 2, 1000);
  BlockedCall call([&] { return ReceiveNothing(*group[0]); });
  call.WaitUntilAsleep();
  group[1]->Abort("tired");
  absl::Status status = call.Join();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "rank 1")) << status;
}

TEST_P(BothTransports, TheFirstFailureIsTheOneThatStays) {
  auto group = ConnectInThreads(GetParam(), 2, 1000);
  group[0]->Abort("first");
  group[0]->Abort("second");
  EXPECT_EQ(group[0]->Addend(1).status(), absl::AbortedError("first"));
}

INSTANTIATE_TEST_SUITE_P(Transports, BothTransports,
                         testing::Values(Transport::kShm, Transport::kTcp),
                         [](const auto& info) { return Name(info.param); });

}  // namespace
}  // namespace lockstep::worker
