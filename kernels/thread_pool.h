// The threads of one rank. Every kernel takes a pool and splits its work over it; results never
// depend on how many threads there are (row invariance, see README.md).
#ifndef LOCKSTEP_KERNELS_THREAD_POOL_H_
#define LOCKSTEP_KERNELS_THREAD_POOL_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace lockstep::kernels {

/// A fixed group of threads that run one fork-join region at a time. The thread that calls Run is
/// member 0 and works too. Waiting members spin for a few microseconds, then yield for a
/// millisecond, then sleep on a futex, so that an idle rank costs nothing; one that finds others
/// computing on its core sleeps sooner, so that ranks that share cores do not starve each other.
/// Run may be called from one thread at a time.
class ThreadPool {
 public:
  /// One member per entry of `cpus`, each pinned to that logical CPU; an empty list makes a pool of
  /// the calling thread alone, unpinned. The calling thread (member 0) is pinned on its first Run.
  explicit ThreadPool(std::vector<int> cpus);
  /// `threads` members, none pinned.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;

  /// Calls body(member) once on every member, 0 <= member < size(), and returns when all are done.
  void Run(const std::function<void(int member)>& body);

  /// Splits [0, count) into contiguous ranges of whole `grain`s, at most one per member, and calls
  /// body(begin, end) for each. Runs on the caller alone when there is only one range.
  void ParallelFor(int64_t count, int64_t grain,
                   const std::function<void(int64_t begin, int64_t end)>& body);

  /// The same by demand: a member that is done takes more, in ranges that shrink towards the end
  /// (guided self-scheduling, Polychronopoulos and Kuck 1987), so that all end together although
  /// one has less memory bandwidth or is interrupted. For long bodies.
  void ParallelForOnDemand(int64_t count, int64_t grain,
                           const std::function<void(int64_t begin, int64_t end)>& body);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lockstep::kernels

#endif  // LOCKSTEP_KERNELS_THREAD_POOL_H_
