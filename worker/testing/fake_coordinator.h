// A coordinator that a test plays by hand: it sees what the worker sends and says what it likes.
#ifndef LOCKSTEP_WORKER_TESTING_FAKE_COORDINATOR_H_
#define LOCKSTEP_WORKER_TESTING_FAKE_COORDINATOR_H_

#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "proto/lockstep/v1/cluster.pb.h"
#include "worker/coordinator_client.h"

namespace lockstep::worker {

/// A queue between threads that can be closed. Thread-safe.
template <typename T>
class Pipe {
 public:
  void Put(T value) {
    std::lock_guard lock(mutex_);
    values_.push_back(std::move(value));
    changed_.notify_all();
  }
  void Close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }
  bool closed() {
    std::lock_guard lock(mutex_);
    return closed_;
  }
  /// nullopt once closed and empty, or after 60 seconds.
  std::optional<T> Take() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(60),
                      [this] { return closed_ || !values_.empty(); });
    if (values_.empty()) return std::nullopt;
    T value = std::move(values_.front());
    values_.pop_front();
    return value;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<T> values_;
  bool closed_ = false;
};

/// Both ends of one connection: what goes down to the worker and what comes up from it.
template <typename Down, typename Up>
struct Wire {
  Pipe<Down> down;
  Pipe<Up> up;
  void Close() {
    down.Close();
    up.Close();
  }
};

/// Thread-safe; must outlive the worker.
class FakeCoordinator {
 public:
  using JoinWire = Wire<v1::JoinResponse, v1::JoinRequest>;
  using BatchWire = Wire<v1::StepBatch, v1::StepResult>;
  struct Opened {
    uint64_t epoch;
    uint32_t rank;
    std::shared_ptr<BatchWire> wire;
  };

  /// For WorkerOptions::dial.
  std::unique_ptr<CoordinatorClient> Client();

  /// Connections in the order in which the worker opened them; null after a minute without one.
  std::shared_ptr<JoinWire> NextJoin();
  std::optional<Opened> NextExecute() { return executes_.Take(); }

 private:
  class FakeClient;

  Pipe<std::shared_ptr<JoinWire>> joins_;
  Pipe<Opened> executes_;
};

/// The next message of the worker that is neither heartbeat nor load progress; an empty one when
/// the connection ended.
v1::JoinRequest NextRequest(FakeCoordinator::JoinWire& wire);

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_TESTING_FAKE_COORDINATOR_H_
