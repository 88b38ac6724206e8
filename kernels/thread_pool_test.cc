// Fork, join, splitting and sleeping of the thread pool.
#include "kernels/thread_pool.h"

#include <sched.h>

#include <atomic>
#include <chrono>
#include <ctime>
#include <vector>

#include "gtest/gtest.h"

namespace lockstep::kernels {
namespace {

TEST(ThreadPoolTest, EveryMemberRunsOncePerRegion) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    ASSERT_EQ(pool.size(), threads);
    std::vector<int> runs(threads);
    for (int i = 0; i < 2000; ++i) pool.Run([&](int member) { ++runs[member]; });
    EXPECT_EQ(runs, std::vector<int>(threads, 2000));
  }
}

TEST(ThreadPoolTest, RangesCoverTheCountOnceInWholeGrains) {
  ThreadPool pool(3);
  for (int64_t count : {0, 1, 2, 7, 64, 100}) {
    for (int64_t grain : {1, 3, 16, 200}) {
      std::vector<std::atomic<int>> seen(count);
      pool.ParallelFor(count, grain, [&](int64_t begin, int64_t end) {
        EXPECT_EQ(begin % grain, 0);
        EXPECT_TRUE(end % grain == 0 || end == count);
        for (int64_t i = begin; i < end; ++i) ++seen[i];
      });
      for (auto& times : seen) EXPECT_EQ(times.load(), 1);
    }
  }
}

TEST(ThreadPoolTest, SharesDifferByOneGrainAtMost) {
  ThreadPool pool(4);
  std::atomic<int64_t> smallest{1000}, largest{0};
  pool.ParallelFor(103, 1, [&](int64_t begin, int64_t end) {
    int64_t share = end - begin;
    for (int64_t s = smallest; share < s && !smallest.compare_exchange_weak(s, share);) {
    }
    for (int64_t l = largest; share > l && !largest.compare_exchange_weak(l, share);) {
    }
  });
  EXPECT_GE(smallest, 25);
  EXPECT_LE(largest, 26);
}

TEST(ThreadPoolTest, RangesOnDemandCoverTheCountOnceInWholeGrains) {
  for (int threads : {1, 3}) {
    ThreadPool pool(threads);
    for (int64_t count : {0, 1, 2, 7, 64, 100, 1000}) {
      for (int64_t grain : {1, 3, 16, 200}) {
        std::vector<std::atomic<int>> seen(count);
        pool.ParallelForOnDemand(count, grain, [&](int64_t begin, int64_t end) {
          EXPECT_EQ(begin % grain, 0);
          EXPECT_TRUE(end % grain == 0 || end == count);
          for (int64_t i = begin; i < end; ++i) ++seen[i];
        });
        for (auto& times : seen) EXPECT_EQ(times.load(), 1);
      }
    }
  }
}

TEST(ThreadPoolTest, OnDemandAHeldUpMemberLeavesItsWorkToTheOthers) {
  ThreadPool pool(2);
  std::atomic<int64_t> done{0};
  pool.ParallelForOnDemand(64, 1, [&](int64_t begin, int64_t end) {
    // Whoever has the first range waits until all the others are done.
    while (begin == 0 && done < 64 - end) sched_yield();
    done += end - begin;
  });
  EXPECT_EQ(done, 64);
}

TEST(ThreadPoolTest, PinnedMembersRunOnTheirCpu) {
  cpu_set_t allowed;
  ASSERT_EQ(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &allowed)) cpus.push_back(cpu);
  }
  ThreadPool pool(cpus);
  std::vector<int> ran_on(cpus.size());
  pool.Run([&](int member) { ran_on[member] = sched_getcpu(); });
  EXPECT_EQ(ran_on, cpus);
  sched_setaffinity(0, sizeof(allowed), &allowed);
}

TEST(ThreadPoolTest, AnIdlePoolUsesNoProcessorTime) {
  ThreadPool pool(3);
  pool.Run([](int) {});
  // The members first have to run out of spins and yields: wait for an idle stretch, up to 10 s.
  auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  bool idle = false;
  while (!idle && std::chrono::steady_clock::now() < deadline) {
    timespec before, after;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    timespec stretch = {0, 20'000'000};
    nanosleep(&stretch, nullptr);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    int64_t used_ns =
        (after.tv_sec - before.tv_sec) * 1'000'000'000 + after.tv_nsec - before.tv_nsec;
    idle = used_ns < 1'000'000;
  }
  EXPECT_TRUE(idle);
}

TEST(ThreadPoolTest, ASleepingMemberWakesForTheNextRegion) {
  ThreadPool pool(2);
  std::atomic<int> runs{0};
  for (int i = 0; i < 5; ++i) {
    timespec stretch = {0, 5'000'000};
    nanosleep(&stretch, nullptr);
    pool.Run([&](int) { ++runs; });
  }
  EXPECT_EQ(runs, 10);
}

}  // namespace
}  // namespace lockstep::kernels
