// What a coordinator delivers when the workers cost nothing: plays an instant worker and many
// streaming clients against a running coordinatord, and prints one JSON line of what arrived when.
// bench/coordinator.py starts the two processes, each on a core of its own.
#include <grpcpp/grpcpp.h>
#include <sched.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "bench/grpc_socket.h"
#include "coordinator/cluster/testing/fake_worker.h"
#include "nlohmann/json.hpp"
#include "proto/lockstep/v1/inference.pb.h"

ABSL_FLAG(std::string, coordinator, "", "HOST:PORT of the coordinator, which has no workers yet");
ABSL_FLAG(int, streams, 256, "clients, each with a channel of its own and one stream at a time");
ABSL_FLAG(double, tokens_per_second, 0,
          "pace of the worker, over all streams; 0: it answers at once");
ABSL_FLAG(double, seconds, 5, "how long to measure, once every stream has begun");
ABSL_FLAG(int, max_tokens, 1500, "of each request; the next one follows at once");

namespace lockstep::coordinator {
namespace {

constexpr int kPromptTokens = 8;
// A token says by its id in which step it was sampled: kFirstToken + step % kSteps.
constexpr int32_t kFirstToken = 100;
constexpr size_t kSteps = 800;

/// Answers each batch at once, or at its turn, and remembers when.
class PacedWorker {
 public:
  PacedWorker(const std::shared_ptr<grpc::Channel>& channel, double steps_per_second)
      : interval_(steps_per_second > 0 ? absl::Seconds(1 / steps_per_second)
                                       : absl::ZeroDuration()),
        worker_(channel, {.memory_bytes = int64_t{8} << 30,
                          .on_batch =
                              [this](const v1::Assignment& assignment, const v1::StepBatch& batch) {
                                return Answer(assignment, batch);
                              },
                          .keep_batches = false}) {}

  /// When the step that sampled this token was answered, in nanoseconds.
  int64_t SentAt(int32_t token_id) const {
    return sent_ns_[static_cast<size_t>(token_id - kFirstToken)].load(std::memory_order_relaxed);
  }

 private:
  std::optional<v1::StepResult> Answer(const v1::Assignment& assignment,
                                       const v1::StepBatch& batch) {
    std::optional<v1::StepResult> result = FakeWorker::Answer(assignment, batch);
    const size_t slot = batch.step_id() % kSteps;
    for (v1::SampledToken& token : *result->mutable_sampled()) {
      token.set_token_id(kFirstToken + static_cast<int32_t>(slot));
    }
    due_ = std::max(due_ + interval_, absl::Now());
    if (interval_ > absl::ZeroDuration()) absl::SleepFor(due_ - absl::Now());
    sent_ns_[slot].store(absl::GetCurrentTimeNanos(), std::memory_order_relaxed);
    return result;
  }

  const absl::Duration interval_;
  absl::Time due_ = absl::InfinitePast();
  std::array<std::atomic<int64_t>, kSteps> sent_ns_{};
  // Last: its threads use the above.
  FakeWorker worker_;
};

/// What has arrived since the measurement began.
struct Arrivals {
  bool counting = false;
  int64_t messages = 0;
  int64_t tokens = 0;
  int64_t text_bytes = 0;
  int64_t failures = 0;
  std::vector<int64_t> latencies_ns;
};

/// One client: a request after the other on its own connection.
class StreamingClient {
 public:
  StreamingClient(bench::GrpcSocket socket, int seed) : socket_(std::move(socket)) {
    v1::GenerateRequest request;
    for (int i = 0; i < kPromptTokens; ++i) {
      request.mutable_tokens()->add_ids(kFirstToken + (seed * 13 + i * 7) % 512);
    }
    request.set_max_tokens(absl::GetFlag(FLAGS_max_tokens));
    request.set_ignore_eos(true);
    request_ = request.SerializeAsString();
  }

  int fd() const { return socket_.fd(); }
  bool has_begun() const { return has_begun_; }

  absl::Status Start() {
    has_finished_ = false;
    return socket_.Call("/lockstep.v1.InferenceService/Generate", request_);
  }

  absl::Status OnReadable(const PacedWorker& worker, Arrivals& arrivals) {
    LOCKSTEP_ASSIGN_OR_RETURN(const bool ended, socket_.Read([&](std::string_view message) {
      Count(message, worker, arrivals);
    }));
    if (!ended) return absl::OkStatus();
    if (!has_finished_) ++arrivals.failures;
    return Start();
  }

 private:
  void Count(std::string_view message, const PacedWorker& worker, Arrivals& arrivals) {
    if (!response_.ParseFromArray(message.data(), static_cast<int>(message.size()))) {
      ++arrivals.failures;
      return;
    }
    has_begun_ = true;
    has_finished_ = response_.has_finish();
    if (!arrivals.counting) return;
    const int64_t now_ns = absl::GetCurrentTimeNanos();
    ++arrivals.messages;
    arrivals.tokens += response_.token_ids_size();
    arrivals.text_bytes += static_cast<int64_t>(response_.text().size());
    for (int32_t token : response_.token_ids()) {
      arrivals.latencies_ns.push_back(now_ns - worker.SentAt(token));
    }
  }

  bench::GrpcSocket socket_;
  std::string request_;
  bool has_begun_ = false;
  bool has_finished_ = false;
  v1::GenerateResponse response_;
};

double Percentile(std::vector<int64_t>& values, double share) {
  if (values.empty()) return 0;
  const auto place =
      values.begin() + static_cast<std::ptrdiff_t>(share * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), place, values.end());
  return static_cast<double>(*place);
}

void Print(Arrivals& arrivals, double seconds) {
  const auto tokens = static_cast<double>(arrivals.tokens);
  std::cout << nlohmann::json{{"seconds", seconds},
                              {"tokens_per_second", tokens / seconds},
                              {"messages_per_token",
                               static_cast<double>(arrivals.messages) / std::max(tokens, 1.0)},
                              {"text_bytes_per_token",
                               static_cast<double>(arrivals.text_bytes) / std::max(tokens, 1.0)},
                              {"failures", arrivals.failures},
                              {"latency_us",
                               {{"p50", Percentile(arrivals.latencies_ns, 0.5) * 1e-3},
                                {"p99", Percentile(arrivals.latencies_ns, 0.99) * 1e-3},
                                {"max", Percentile(arrivals.latencies_ns, 1.0) * 1e-3}}}}
            << std::endl;
}

absl::StatusOr<std::vector<StreamingClient>> StartClients(const std::string& address, int poll) {
  std::vector<StreamingClient> clients;
  clients.reserve(absl::GetFlag(FLAGS_streams));
  for (int i = 0; i < absl::GetFlag(FLAGS_streams); ++i) {
    LOCKSTEP_ASSIGN_OR_RETURN(bench::GrpcSocket socket, bench::GrpcSocket::Connect(address));
    clients.emplace_back(std::move(socket), i);
    epoll_event event{.events = EPOLLIN, .data = {.u32 = static_cast<uint32_t>(i)}};
    epoll_ctl(poll, EPOLL_CTL_ADD, clients.back().fd(), &event);
    LOCKSTEP_RETURN_IF_ERROR(clients.back().Start());
  }
  return clients;
}

/// Until the measurement is over: begins a second after every stream has.
absl::Status Measure(int poll, std::vector<StreamingClient>& clients, const PacedWorker& worker) {
  const absl::Duration length = absl::Seconds(absl::GetFlag(FLAGS_seconds));
  Arrivals arrivals;
  absl::Time begin = absl::InfiniteFuture();
  std::array<epoll_event, 256> events;
  while (true) {
    // Never sleeps: to wake a sleeper on another core costs the sender as much again as to send,
    // and a client on another machine would not cost it that.
    const int count = epoll_wait(poll, events.data(), events.size(), /*timeout=*/0);
    if (count == 0) sched_yield();
    for (int i = 0; i < count; ++i) {
      LOCKSTEP_RETURN_IF_ERROR(clients[events[i].data.u32].OnReadable(worker, arrivals));
    }
    const absl::Time now = absl::Now();
    if (begin == absl::InfiniteFuture()) {
      const bool all_begun =
          std::all_of(clients.begin(), clients.end(),
                      [](const StreamingClient& client) { return client.has_begun(); });
      if (all_begun) begin = now + absl::Seconds(1);
    } else if (!arrivals.counting && now >= begin) {
      arrivals.counting = true;
      begin = now;
    } else if (arrivals.counting && now >= begin + length) {
      Print(arrivals, absl::ToDoubleSeconds(now - begin));
      return absl::OkStatus();
    }
  }
}

absl::Status Run() {
  const std::string address = absl::GetFlag(FLAGS_coordinator);
  PacedWorker worker(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()),
                     absl::GetFlag(FLAGS_tokens_per_second) / absl::GetFlag(FLAGS_streams));
  const int poll = epoll_create1(EPOLL_CLOEXEC);
  LOCKSTEP_ASSIGN_OR_RETURN(std::vector<StreamingClient> clients, StartClients(address, poll));
  return Measure(poll, clients, worker);
}

}  // namespace
}  // namespace lockstep::coordinator

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  const absl::Status status = lockstep::coordinator::Run();
  if (status.ok()) return 0;
  std::cerr << "coordinator_bench: " << status << std::endl;
  return 1;
}
