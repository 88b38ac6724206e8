// A server's end of a bidirectional gRPC stream with an outgoing queue: gRPC wants one write at a
// time, the cluster sends whenever it has something.
#ifndef LOCKSTEP_COORDINATOR_CLUSTER_QUEUED_STREAM_H_
#define LOCKSTEP_COORDINATOR_CLUSTER_QUEUED_STREAM_H_

#include <grpcpp/support/server_callback.h>

#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "base/grpc_status.h"

namespace lockstep::coordinator {

/// Held by a shared_ptr; keeps itself alive from Begin until gRPC is done with it. Enqueue and
/// Finish are thread-safe, never block and do not call back from within.
template <class Request, class Response>
class QueuedStream : public grpc::ServerBidiReactor<Request, Response>,
                     public std::enable_shared_from_this<QueuedStream<Request, Response>> {
 public:
  explicit QueuedStream(grpc::CallbackServerContext* context) : context_(context) {}

  /// Starts to read; returns what the service's method returns.
  grpc::ServerBidiReactor<Request, Response>* Begin() {
    self_ = this->shared_from_this();
    this->StartRead(&request_);
    return this;
  }

  /// In order; dropped once the stream ends.
  void Enqueue(Response message) {
    absl::MutexLock lock(&mutex_);
    if (ending_) return;
    queue_.push_back(std::move(message));
    WriteNext();
  }

  /// Ends the stream with `status` once the queue is written; the first call counts.
  void End(const absl::Status& status) {
    absl::MutexLock lock(&mutex_);
    if (ending_) return;
    ending_ = true;
    end_status_ = status;
    WriteNext();
  }

 protected:
  /// One at a time, from gRPC's threads.
  virtual void OnMessage(const Request& message) = 0;
  /// The last call: the stream is over.
  virtual void OnEnd(const absl::Status& reason) = 0;

 private:
  void OnReadDone(bool ok) final {
    if (!ok) {
      End(context_->IsCancelled() ? absl::CancelledError("the connection is lost")
                                  : absl::OkStatus());
      return;
    }
    OnMessage(request_);
    {
      absl::MutexLock lock(&mutex_);
      if (ending_) return;
    }
    this->StartRead(&request_);
  }

  void OnWriteDone(bool ok) final {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    queue_.pop_front();
    if (!ok) {
      queue_.clear();
      if (!ending_) end_status_ = absl::CancelledError("the connection is lost");
      ending_ = true;
    }
    WriteNext();
  }

  void OnCancel() final { End(absl::CancelledError("the connection is lost")); }

  void OnDone() final {
    absl::Status reason;
    {
      absl::MutexLock lock(&mutex_);
      reason = end_status_;
    }
    OnEnd(reason.ok() ? absl::CancelledError("the worker closed the stream") : reason);
    // May be the last reference.
    std::shared_ptr<void> self = std::move(self_);
  }

  // Starts what may be started now: the next write or, at the end, the finish.
  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_ || finished_) return;
    if (!queue_.empty()) {
      writing_ = true;
      this->StartWrite(&queue_.front());
    } else if (ending_) {
      finished_ = true;
      this->Finish(ToGrpcStatus(end_status_));
    }
  }

  grpc::CallbackServerContext* const context_;
  // Written by gRPC while a read is on its way.
  Request request_;
  std::shared_ptr<void> self_;

  absl::Mutex mutex_;
  // The front is being written while writing_.
  std::deque<Response> queue_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status end_status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CLUSTER_QUEUED_STREAM_H_
