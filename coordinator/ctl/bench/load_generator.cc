// One completion queue, polled by the calling thread alone: no lock, no hand-over between threads,
// one look at the clock a message.
#include "coordinator/ctl/bench/load_generator.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <unordered_map>
#include <utility>

#include "base/grpc_status.h"
#include "coordinator/ctl/bench/poisson_arrivals.h"
#include "grpcpp/client_context.h"
#include "grpcpp/completion_queue.h"
#include "proto/lockstep/v1/inference.grpc.pb.h"

namespace lockstep::coordinator {
namespace {

constexpr int64_t kTickNs = 200'000'000;
constexpr int64_t kPauseNs = 100'000'000;

int64_t SteadyNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// One request under way. It always has exactly one operation in the queue, tagged with itself.
class Call {
 public:
  Call(v1::InferenceService::Stub* stub, const v1::GenerateRequest& request,
       grpc::CompletionQueue* queue, int64_t sent_ns)
      : reader_(stub->PrepareAsyncGenerate(&context_, request, queue)) {
    record_.sent_ns = sent_ns;
    record_.arrivals.reserve(std::max(request.max_tokens(), 1));
    reader_->StartCall(this);
  }

  /// Takes the end of the operation and starts the next one; true when the call has ended. Adds to
  /// `output_tokens` what came.
  bool Advance(bool ok, int64_t now_ns, int64_t* output_tokens) {
    if (phase_ == Phase::kFinishing) {
      record_.done_ns = now_ns;
      return true;
    }
    if (phase_ == Phase::kReading && ok) Note(now_ns, output_tokens);
    phase_ = ok ? Phase::kReading : Phase::kFinishing;
    if (ok) {
      reader_->Read(&response_, this);
    } else {
      reader_->Finish(&status_, this);
    }
    return false;
  }

  void Cancel() { context_.TryCancel(); }

  /// Once, after the call has ended.
  RequestRecord TakeRecord() {
    record_.status = FromGrpcStatus(status_);
    if (status_.ok() && !finished_) {
      record_.status = absl::DataLossError("the server ended the stream without a finish reason");
    }
    return std::move(record_);
  }

 private:
  enum class Phase { kStarting, kReading, kFinishing };

  void Note(int64_t now_ns, int64_t* output_tokens) {
    if (response_.token_ids_size() > 0) {
      record_.arrivals.push_back({now_ns, response_.token_ids_size()});
      *output_tokens += response_.token_ids_size();
    }
    if (!response_.has_finish()) return;
    finished_ = true;
    record_.prompt_tokens = response_.finish().prompt_tokens();
    record_.cached_tokens = response_.finish().cached_tokens();
  }

  Phase phase_ = Phase::kStarting;
  bool finished_ = false;
  grpc::ClientContext context_;
  // Read into again and again, so that its buffers are kept.
  v1::GenerateResponse response_;
  grpc::Status status_;
  RequestRecord record_;
  std::unique_ptr<grpc::ClientAsyncReader<v1::GenerateResponse>> reader_;
};

/// One run. Times are nanoseconds since its start.
class Run {
 public:
  Run(const std::vector<std::shared_ptr<grpc::Channel>>& channels, const LoadOptions& options,
      const std::function<v1::GenerateRequest(int64_t)>& make_request)
      : options_(options), make_request_(make_request) {
    for (const auto& channel : channels) stubs_.push_back(v1::InferenceService::NewStub(channel));
    if (options_.rate) arrivals_.emplace(*options_.rate, options_.seed);
    NextArrival();
  }

  LoadResult Drive(const std::function<void(const LoadProgress&)>& on_progress,
                   const std::atomic<bool>& stop) {
    const double cpu_before = CpuSeconds();
    int64_t tick_ns = kTickNs;
    while (true) {
      int64_t now_ns = Now();
      if (now_ns >= tick_ns) {
        if (stop) CancelAll();
        Report(now_ns, on_progress);
        tick_ns = now_ns + kTickNs;
      }
      for (; MaySend(now_ns); now_ns = Now()) Send(now_ns);
      if (calls_.empty() && IsOver(now_ns)) break;
      AdvanceOne(std::min(tick_ns, SendLater(now_ns)) - now_ns);
    }
    result_.cpu_seconds = CpuSeconds() - cpu_before;
    Report(Now(), on_progress);
    return std::move(result_);
  }

  ~Run() {
    queue_.Shutdown();
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
    }
  }

 private:
  int64_t Now() const { return SteadyNs() - start_ns_; }

  void Report(int64_t now_ns, const std::function<void(const LoadProgress&)>& on_progress) {
    progress_.seconds = static_cast<double>(now_ns) * 1e-9;
    on_progress(progress_);
  }

  void NextArrival() {
    if (arrivals_) arrival_ns_ = static_cast<int64_t>(arrivals_->Next() * 1e9);
  }

  /// Nothing will be sent any more.
  bool IsOver(int64_t now_ns) const {
    return stopped_ || (options_.requests && progress_.sent >= *options_.requests) ||
           (options_.seconds && static_cast<double>(now_ns) >= *options_.seconds * 1e9);
  }

  bool HasRoom() const {
    return !options_.concurrency || static_cast<int64_t>(calls_.size()) < *options_.concurrency;
  }

  /// When the next request is due, were there room.
  int64_t DueNs() const { return std::max(arrival_ns_, paused_until_ns_); }

  bool MaySend(int64_t now_ns) const { return !IsOver(now_ns) && HasRoom() && now_ns >= DueNs(); }

  /// When to look again without any event; far away when only an event can make room.
  int64_t SendLater(int64_t now_ns) const {
    return !IsOver(now_ns) && HasRoom() ? DueNs() : INT64_MAX;
  }

  void Send(int64_t now_ns) {
    v1::InferenceService::Stub* stub = stubs_[progress_.sent % stubs_.size()].get();
    auto call = std::make_unique<Call>(stub, make_request_(progress_.sent), &queue_, now_ns);
    Call* key = call.get();
    calls_.emplace(key, std::move(call));
    ++progress_.sent;
    result_.max_in_flight = std::max(result_.max_in_flight, static_cast<int64_t>(calls_.size()));
    NextArrival();
  }

  /// Waits for one event, for at most `wait_ns`.
  void AdvanceOne(int64_t wait_ns) {
    void* tag = nullptr;
    bool ok = false;
    const gpr_timespec deadline =
        gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_nanos(wait_ns, GPR_TIMESPAN));
    if (queue_.AsyncNext(&tag, &ok, deadline) != grpc::CompletionQueue::GOT_EVENT) return;
    Call* call = static_cast<Call*>(tag);
    const int64_t now_ns = Now();
    if (!call->Advance(ok, now_ns, &progress_.output_tokens)) return;
    RequestRecord record = call->TakeRecord();
    calls_.erase(call);
    ++progress_.done;
    if (!record.status.ok()) ++progress_.failed;
    NoteAvailability(absl::IsUnavailable(record.status), now_ns);
    result_.records.push_back(std::move(record));
  }

  void NoteAvailability(bool unavailable, int64_t now_ns) {
    if (!unavailable) {
      unavailable_since_ns_.reset();
      return;
    }
    paused_until_ns_ = now_ns + kPauseNs;
    if (!unavailable_since_ns_) unavailable_since_ns_ = now_ns;
    const double unavailable_s = static_cast<double>(now_ns - *unavailable_since_ns_) * 1e-9;
    if (unavailable_s >= options_.give_up_after_s) stopped_ = true;
  }

  void CancelAll() {
    stopped_ = true;
    for (auto& [key, call] : calls_) call->Cancel();
  }

  const LoadOptions& options_;
  const std::function<v1::GenerateRequest(int64_t)>& make_request_;
  std::vector<std::unique_ptr<v1::InferenceService::Stub>> stubs_;
  std::optional<PoissonArrivals> arrivals_;
  const int64_t start_ns_ = SteadyNs();
  int64_t arrival_ns_ = 0;
  int64_t paused_until_ns_ = 0;
  std::optional<int64_t> unavailable_since_ns_;
  bool stopped_ = false;
  LoadProgress progress_;
  LoadResult result_;
  grpc::CompletionQueue queue_;
  std::unordered_map<Call*, std::unique_ptr<Call>> calls_;
};

}  // namespace

LoadResult GenerateLoad(const std::vector<std::shared_ptr<grpc::Channel>>& channels,
                        const LoadOptions& options,
                        const std::function<v1::GenerateRequest(int64_t)>& make_request,
                        const std::function<void(const LoadProgress&)>& on_progress,
                        const std::atomic<bool>& stop) {
  return Run(channels, options, make_request).Drive(on_progress, stop);
}

}  // namespace lockstep::coordinator
