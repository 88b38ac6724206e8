// See thread_group.h.
#include "worker/collective/thread_group.h"

#include <gtest/gtest.h>

#include <thread>
#include <utility>

#include "absl/time/clock.h"

namespace lockstep::worker {

std::string Name(Transport transport) { return transport == Transport::kShm ? "shm" : "tcp"; }

absl::StatusOr<std::unique_ptr<CollectiveSetup>> MakeSetup(Transport transport,
                                                           const GroupMember& member,
                                                           int64_t addend_capacity) {
  if (transport == Transport::kShm) return MakeShmSetup(member, addend_capacity);
  return MakeTcpSetup(member, "127.0.0.1");
}

void InThreads(int size, const std::function<void(int)>& body) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) threads.emplace_back(body, rank);
  for (std::thread& thread : threads) thread.join();
}

std::vector<std::unique_ptr<Collective>> ConnectInThreads(Transport transport, int size,
                                                          int64_t addend_capacity) {
  std::vector<std::unique_ptr<CollectiveSetup>> setups;
  std::vector<std::string> addresses;
  for (int rank = 0; rank < size; ++rank) {
    auto setup = MakeSetup(transport, {.epoch = 7, .group = "test", .rank = rank, .size = size},
                           addend_capacity);
    EXPECT_TRUE(setup.ok()) << setup.status();
    if (!setup.ok()) return std::vector<std::unique_ptr<Collective>>(size);
    addresses.push_back((*setup)->address());
    setups.push_back(*std::move(setup));
  }
  std::vector<std::unique_ptr<Collective>> group(static_cast<size_t>(size));
  InThreads(size, [&](int rank) {
    auto connected = setups[rank]->Connect(addresses, absl::Now() + absl::Seconds(30));
    EXPECT_TRUE(connected.ok()) << connected.status();
    if (connected.ok()) group[rank] = *std::move(connected);
  });
  return group;
}

}  // namespace lockstep::worker
