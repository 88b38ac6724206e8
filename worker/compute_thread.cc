// The loop of ComputeThread.
#include "worker/compute_thread.h"

#include <utility>

namespace lockstep::worker {

ComputeThread::ComputeThread(std::vector<int> cpus, int threads)
    : thread_([this, cpus = std::move(cpus), threads] { Loop(cpus, threads); }) {}

ComputeThread::~ComputeThread() {
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
  }
  posted_.notify_all();
  thread_.join();
}

void ComputeThread::Post(Job job) {
  {
    std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  posted_.notify_all();
}

void ComputeThread::Loop(std::vector<int> cpus, int threads) {
  kernels::ThreadPool pool =
      cpus.empty() ? kernels::ThreadPool(threads) : kernels::ThreadPool(std::move(cpus));
  ComputeState state{pool, {}};
  std::unique_lock lock(mutex_);
  while (true) {
    posted_.wait(lock, [this] { return ending_ || !jobs_.empty(); });
    if (ending_) return;
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    job(state);
    job = nullptr;
    lock.lock();
  }
}

}  // namespace lockstep::worker
