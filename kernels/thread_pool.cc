// ThreadPool: one generation counter starts a region, one countdown ends it.
#include "kernels/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "base/yielding.h"
#include "glog/logging.h"

namespace lockstep::kernels {
namespace {

using Clock = std::chrono::steady_clock;

// Longer spinning starves a rank that shares the core; shorter misses the next region, which
// usually follows within a microsecond or two.
constexpr std::chrono::microseconds kSpin{5};

void CpuRelax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Blocks until `value` differs from `old`: spins, yields, then sleeps.
void AwaitChange(const std::atomic<int>& value, int old) {
  auto changed = [&] { return value.load(std::memory_order_acquire) != old; };
  Clock::time_point until = Clock::now() + kSpin;
  do {
    for (int i = 0; i < 8; ++i) {
      if (changed()) return;
      CpuRelax();
    }
  } while (Clock::now() < until);
  if (YieldUntil(changed)) return;
  while (!changed()) value.wait(old, std::memory_order_acquire);
}

void PinThisThread(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  int error = pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
  LOG_IF(WARNING, error != 0) << "cannot pin a kernel thread to CPU " << cpu << " (error " << error
                              << "); it stays unpinned";
}

}  // namespace

class ThreadPool::Impl {
 public:
  Impl(int size, std::vector<int> cpus) : size_(size), cpus_(std::move(cpus)) {
    threads_.reserve(size - 1);
    for (int member = 1; member < size; ++member) {
      threads_.emplace_back([this, member] { WorkerLoop(member); });
    }
  }

  ~Impl() {
    body_ = nullptr;
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  int size() const { return size_; }

  void Run(const std::function<void(int)>& body) {
    if (!caller_pinned_ && !cpus_.empty()) PinThisThread(cpus_[0]);
    caller_pinned_ = true;
    if (size_ == 1) return body(0);
    body_ = &body;
    running_.store(size_ - 1, std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    body(0);
    for (int left = running_.load(std::memory_order_acquire); left != 0;
         left = running_.load(std::memory_order_acquire)) {
      AwaitChange(running_, left);
    }
  }

 private:
  void WorkerLoop(int member) {
    if (!cpus_.empty()) PinThisThread(cpus_[member]);
    for (int seen = 0;; ++seen) {
      AwaitChange(generation_, seen);
      if (body_ == nullptr) return;
      (*body_)(member);
      running_.fetch_sub(1, std::memory_order_acq_rel);
      running_.notify_all();
    }
  }

  const int size_;
  const std::vector<int> cpus_;
  bool caller_pinned_ = false;
  // Written before generation_ grows, read after: null ends the workers.
  const std::function<void(int)>* body_ = nullptr;
  // On lines of their own: workers poll one while the caller polls the other.
  alignas(64) std::atomic<int> generation_{0};
  alignas(64) std::atomic<int> running_{0};
  std::vector<std::thread> threads_;
};

ThreadPool::ThreadPool(std::vector<int> cpus) {
  int size = std::max<int>(1, static_cast<int>(cpus.size()));
  impl_ = std::make_unique<Impl>(size, std::move(cpus));
}

ThreadPool::ThreadPool(int threads) {
  CHECK_GE(threads, 1);
  impl_ = std::make_unique<Impl>(threads, std::vector<int>());
}

ThreadPool::~ThreadPool() = default;

int ThreadPool::size() const { return impl_->size(); }

void ThreadPool::Run(const std::function<void(int)>& body) { impl_->Run(body); }

void ThreadPool::ParallelFor(int64_t count, int64_t grain,
                             const std::function<void(int64_t, int64_t)>& body) {
  if (count <= 0) return;
  int64_t grains = (count + grain - 1) / grain;
  int64_t ranges = std::min<int64_t>(grains, size());
  if (ranges == 1) return body(0, count);
  auto bound = [&](int64_t range) { return std::min(count, grains * range / ranges * grain); };
  Run([&](int member) {
    if (member < ranges) body(bound(member), bound(member + 1));
  });
}

void ThreadPool::ParallelForOnDemand(int64_t count, int64_t grain,
                                     const std::function<void(int64_t, int64_t)>& body) {
  if (count <= 0) return;
  if (size() == 1 || count <= grain) return body(0, count);
  std::atomic<int64_t> next{0};
  Run([&](int) {
    int64_t begin = next.load(std::memory_order_relaxed);
    while (begin < count) {
      int64_t share = (count - begin) / (2 * size()) / grain * grain;
      int64_t end = std::min(count, begin + std::max(grain, share));
      if (!next.compare_exchange_weak(begin, end, std::memory_order_relaxed)) continue;
      body(begin, end);
      begin = next.load(std::memory_order_relaxed);
    }
  });
}

}  // namespace lockstep::kernels
