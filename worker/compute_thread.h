// The one thread that loads and computes; it is member 0 of the rank's thread pool.
#ifndef LOCKSTEP_WORKER_COMPUTE_THREAD_H_
#define LOCKSTEP_WORKER_COMPUTE_THREAD_H_

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/thread_pool.h"
#include "worker/held_model.h"

namespace lockstep::worker {

/// What only the compute thread touches.
struct ComputeState {
  kernels::ThreadPool& pool;
  HeldModel held;
};

/// Runs jobs in order. Thread-safe.
class ComputeThread {
 public:
  using Job = std::function<void(ComputeState&)>;

  /// One pool member per entry of `cpus`, pinned; with none, `threads` members, unpinned.
  ComputeThread(std::vector<int> cpus, int threads);
  /// Waits for the job under way; jobs that have not begun are dropped.
  ~ComputeThread();

  void Post(Job job);

 private:
  void Loop(std::vector<int> cpus, int threads);

  std::mutex mutex_;
  std::condition_variable posted_;
  std::deque<Job> jobs_;  // guarded by mutex_
  bool ending_ = false;   // guarded by mutex_
  std::thread thread_;
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_COMPUTE_THREAD_H_
