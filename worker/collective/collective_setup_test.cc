// The rendezvous: who is let into a group, who is not, and what is said about it.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "worker/collective/collective.h"
#include "worker/collective/operations_check.h"
#include "worker/collective/thread_group.h"
#include "worker/collective/unique_fd.h"

namespace lockstep::worker {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(30);

GroupMember Member(int rank, int size, uint64_t epoch = 7) {
  return {.epoch = epoch, .group = "test", .rank = rank, .size = size};
}

std::unique_ptr<CollectiveSetup> Make(Transport transport, const GroupMember& member) {
  auto setup = MakeSetup(transport, member, /*addend_capacity=*/1000);
  EXPECT_TRUE(setup.ok()) << setup.status();
  return *std::move(setup);
}

/// The value of `key` in an address.
std::string Field(const std::string& address, const std::string& key) {
  for (absl::string_view word : absl::StrSplit(address, ' ')) {
    if (absl::StartsWith(word, key + "=")) return absl::StrCat(word.substr(key.size() + 1));
  }
  ADD_FAILURE() << "no " << key << " in " << address;
  return "";
}

/// Somebody who connects to the port in `address` without being asked.
UniqueFd ConnectStranger(const std::string& address) {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  int port = 0;
  EXPECT_TRUE(absl::SimpleAtoi(Field(address, "port"), &port));
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)), 0);
  return fd;
}

void Say(const UniqueFd& fd, const std::string& text) {
  EXPECT_EQ(send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(text.size()));
}

/// All that is said until the other side closes.
std::string Hear(const UniqueFd& fd) {
  std::string heard;
  char bytes[256];
  pollfd wait = {.fd = fd.get(), .events = POLLIN, .revents = 0};
  while (poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(kPatience))) == 1) {
    ssize_t count = recv(fd.get(), bytes, sizeof(bytes), 0);
    if (count <= 0) return heard;
    heard.append(bytes, static_cast<size_t>(count));
  }
  ADD_FAILURE() << "the connection was not closed after \"" << heard << "\"";
  return heard;
}

class BothTransports : public testing::TestWithParam<Transport> {};

TEST_P(BothTransports, RefuseAnAddressOfAnotherEpoch) {
  auto mine = Make(GetParam(), Member(0, 2, 8)), stale = Make(GetParam(), Member(1, 2, 7));
  std::vector<std::string> addresses = {mine->address(), stale->address()};
  absl::Status status = mine->Connect(addresses, absl::Now() + kPatience).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "rank 1 of group test says epoch 7")) << status;
}

TEST_P(BothTransports, RefuseAddressesThatAreNotAddresses) {
  for (const std::string& wrong :
       {std::string(), std::string("nonsense"), std::string(5000, 'x')}) {
    auto mine = Make(GetParam(), Member(0, 2));
    std::vector<std::string> addresses = {mine->address(), wrong};
    absl::Status status = mine->Connect(addresses, absl::Now() + kPatience).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "address of rank 1")) << status;
  }
}

TEST_P(BothTransports, RefuseTooFewAddresses) {
  auto mine = Make(GetParam(), Member(0, 2));
  std::vector<std::string> addresses = {mine->address()};
  absl::Status status = mine->Connect(addresses, absl::Now() + kPatience).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
}

TEST_P(BothTransports, NameTheRanksThatDidNotCome) {
  auto first = Make(GetParam(), Member(0, 3)), second = Make(GetParam(), Member(1, 3)),
       absent = Make(GetParam(), Member(2, 3));
  std::vector<std::string> addresses = {first->address(), second->address(), absent->address()};
  std::vector<absl::Status> found(2);
  InThreads(2, [&](int rank) {
    CollectiveSetup& setup = rank == 0 ? *first : *second;
    found[rank] = setup.Connect(addresses, absl::Now() + absl::Milliseconds(300)).status();
  });
  for (const absl::Status& status : found) {
    // One may see that the other gave up before its own time has come.
    if (absl::IsUnavailable(status)) continue;
    EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "2 did not come")) << status;
  }
  EXPECT_TRUE(absl::IsDeadlineExceeded(found[0]) || absl::IsDeadlineExceeded(found[1]));
}

TEST_P(BothTransports, NameTheRankThatGaveUp) {
  auto mine = Make(GetParam(), Member(1, 2)), gone = Make(GetParam(), Member(0, 2));
  std::vector<std::string> addresses = {gone->address(), mine->address()};
  gone.reset();
  absl::Status status = mine->Connect(addresses, absl::Now() + kPatience).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "rank 0 of group test is gone")) << status;
}

TEST_P(BothTransports, RefuseImpossibleMembers) {
  EXPECT_TRUE(absl::IsInvalidArgument(MakeSetup(GetParam(), Member(2, 2), 1).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(MakeSetup(GetParam(), Member(-1, 2), 1).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(MakeSetup(GetParam(), Member(0, 0), 1).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(MakeSetup(GetParam(), Member(0, 65), 1).status()));
  GroupMember spaced = {.epoch = 1, .group = "two words", .rank = 0, .size = 1};
  EXPECT_TRUE(absl::IsInvalidArgument(MakeSetup(GetParam(), spaced, 1).status()));
}

INSTANTIATE_TEST_SUITE_P(Transports, BothTransports,
                         testing::Values(Transport::kShm, Transport::kTcp),
                         [](const auto& info) { return Name(info.param); });

TEST(ShmSetup, SaysWhatIsMissingWhenSharedMemoryIsTooSmall) {
  absl::Status status = MakeShmSetup(Member(0, 2), int64_t{1} << 43).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  for (absl::string_view part : {"67108865 MiB of shared memory", "MiB free of", "--shm-size"}) {
    EXPECT_TRUE(absl::StrContains(status.message(), part)) << status;
  }
}

TEST(ShmSetup, RefusesAPeerOfAnotherSharedMemoryDomainOrCapacity) {
  for (absl::string_view key : {"domain", "addend_capacity"}) {
    auto mine = Make(Transport::kShm, Member(0, 2)), theirs = Make(Transport::kShm, Member(1, 2));
    std::string field = absl::StrCat(key, "=");
    std::string changed = absl::StrReplaceAll(theirs->address(), {{field, field + "9"}});
    std::vector<std::string> addresses = {mine->address(), changed};
    absl::Status status = mine->Connect(addresses, absl::Now() + kPatience).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  }
}

TEST(ShmSetup, RefusesAnAddendBeyondItsCapacity) {
  auto group = ConnectInThreads(Transport::kShm, 2, 1000);
  EXPECT_TRUE(group[0]->Addend(1000).ok());
  absl::Status status = group[0]->Addend(1001).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
}

TEST(TcpSetup, RefusesNamesAndWildcardsToListenOn) {
  for (const char* address : {"0.0.0.0", "::", "localhost", "10.0.0.1:80", ""}) {
    absl::Status status = MakeTcpSetup(Member(0, 2), address).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << address << ": " << status;
  }
}

TEST(TcpSetup, ConnectsOverIpv6WhereThereIsOne) {
  auto mine = MakeTcpSetup(Member(0, 2), "::1"), theirs = MakeTcpSetup(Member(1, 2), "::1");
  if (!mine.ok()) GTEST_SKIP() << "no IPv6 loopback here: " << mine.status();
  std::vector<std::string> addresses = {(*mine)->address(), (*theirs)->address()};
  InThreads(2, [&](int rank) {
    auto collective = (rank == 0 ? *mine : *theirs)->Connect(addresses, absl::Now() + kPatience);
    ASSERT_TRUE(collective.ok()) << collective.status();
    EXPECT_TRUE(CheckAllReduce(**collective, 1, 100).ok());
  });
}

TEST(TcpSetup, StrangersAreRefusedAndDisturbNobody) {
  auto mine = Make(Transport::kTcp, Member(0, 2)), theirs = Make(Transport::kTcp, Member(1, 2));
  std::vector<std::string> addresses = {mine->address(), theirs->address()};
  std::string hello = absl::StrCat("lockstep-tcp-hello/1 epoch=7 group=test rank=1 size=2 to=0 ");
  UniqueFd silent = ConnectStranger(addresses[0]);
  UniqueFd babbling = ConnectStranger(addresses[0]);
  Say(babbling, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  UniqueFd endless = ConnectStranger(addresses[0]);
  Say(endless, std::string(4000, 'x'));
  UniqueFd guessing = ConnectStranger(addresses[0]);
  Say(guessing, hello + "secret=00000000000000000000000000000000\n");
  UniqueFd stale = ConnectStranger(addresses[0]);
  Say(stale, absl::StrReplaceAll(hello, {{"epoch=7", "epoch=6"}}) +
                 "secret=" + Field(addresses[0], "secret") + "\n");
  InThreads(2, [&](int rank) {
    auto collective = (rank == 0 ? *mine : *theirs).Connect(addresses, absl::Now() + kPatience);
    ASSERT_TRUE(collective.ok()) << collective.status();
    EXPECT_TRUE(CheckOperations(**collective, 9, 10, 1000).ok());
  });
  EXPECT_TRUE(absl::StartsWith(Hear(guessing), "lockstep-tcp-refused/1 the secret is not"));
  EXPECT_TRUE(absl::StrContains(Hear(stale), "says epoch 6 where 7 was expected"));
  EXPECT_EQ(Hear(silent), "");
  EXPECT_EQ(Hear(endless), "");
}

TEST(TcpSetup, SaysWhyWhenThePeerRefuses) {
  auto mine = Make(Transport::kTcp, Member(1, 2)), theirs = Make(Transport::kTcp, Member(0, 2));
  std::string secret = Field(theirs->address(), "secret");
  std::vector<std::string> right = {theirs->address(), mine->address()};
  std::vector<std::string> wrong = {absl::StrReplaceAll(right[0], {{secret, std::string(32, '0')}}),
                                    right[1]};
  InThreads(2, [&](int rank) {
    if (rank == 0) {
      EXPECT_TRUE(absl::IsAborted(theirs->Connect(right, absl::Now() + kPatience).status()));
      return;
    }
    absl::Status status = mine->Connect(wrong, absl::Now() + kPatience).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "rank 0 of group test refused rank 1"));
    theirs->Abort("test over");
  });
}

}  // namespace
}  // namespace lockstep::worker
