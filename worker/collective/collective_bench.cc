// Measures collectives between processes of this machine and prints one JSON line per size and
// form: back_to_back: the ranks do nothing else;  with_compute: each computes --compute_us in
// between.
//   collective_bench --ranks=2 --transport=shm --bytes=8192,65536 --operation=all_reduce
// Times of all_reduce: median_us, p99_us and min_us run from the start of the last rank to the end
// of the last rank; rank_median_us is how long the call takes in the median rank, waiting included.
// Times of send_receive: half a round trip between ranks 0 and 1.
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "worker/collective/collective.h"

ABSL_FLAG(int, ranks, 2, "Number of processes, 2 to 8.");
ABSL_FLAG(std::string, transport, "shm", "shm or tcp (over 127.0.0.1).");
ABSL_FLAG(std::string, operation, "all_reduce", "all_reduce or send_receive.");
ABSL_FLAG(std::vector<std::string>, bytes,
          std::vector<std::string>({"4096", "8192", "65536", "1048576"}),
          "Sizes, comma-separated, multiples of 4.");
ABSL_FLAG(int, iterations, 5000, "Measured operations per size and form.");
ABSL_FLAG(int, compute_us, 50, "Computation between two operations in the form with_compute.");
ABSL_FLAG(bool, pin, true, "Pin rank r to processor r modulo their number.");

namespace lockstep::worker {
namespace {

constexpr int kMaxRanks = 8;
constexpr size_t kMaxAddress = 1024;

struct Interval {
  int64_t begin_ns;
  int64_t end_ns;
};

struct Case {
  int64_t bytes;
  bool with_compute;
};

/// What the processes share: addresses for the rendezvous, times for the report.
struct Board {
  std::atomic<int> published;
  char addresses[kMaxRanks][kMaxAddress];
};

template <class T>
T* MapShared(size_t count) {
  void* memory = mmap(nullptr, count * sizeof(T), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("mmap");
    std::exit(1);
  }
  return static_cast<T*>(memory);
}

/// The monotonic clock is the same in all processes of a machine.
int64_t NowNs() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

void Compute(int64_t microseconds) {
  int64_t end = NowNs() + microseconds * 1000;
  while (NowNs() < end) {
  }
}

void Pin(int rank) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(rank) % static_cast<size_t>(sysconf(_SC_NPROCESSORS_ONLN)), &set);
  if (sched_setaffinity(0, sizeof(set), &set) != 0) std::perror("sched_setaffinity");
}

absl::StatusOr<std::unique_ptr<Collective>> Join(Board& board, int rank, int64_t max_bytes) {
  GroupMember member = {
      .epoch = 1, .group = "bench", .rank = rank, .size = absl::GetFlag(FLAGS_ranks)};
  std::unique_ptr<CollectiveSetup> setup;
  if (absl::GetFlag(FLAGS_transport) == "shm") {
    LOCKSTEP_ASSIGN_OR_RETURN(setup, MakeShmSetup(member, max_bytes / 4));
  } else {
    LOCKSTEP_ASSIGN_OR_RETURN(setup, MakeTcpSetup(member, "127.0.0.1"));
  }
  setup->address().copy(board.addresses[rank], kMaxAddress - 1);
  board.published.fetch_add(1);
  while (board.published.load() < member.size) sched_yield();
  std::vector<std::string> addresses(board.addresses, board.addresses + member.size);
  return setup->Connect(addresses, absl::Now() + absl::Seconds(10));
}

absl::Status AllReduceOnce(Collective& collective, std::span<float> out, Interval& time) {
  LOCKSTEP_ASSIGN_OR_RETURN(std::span<float> addend,
                            collective.Addend(static_cast<int64_t>(out.size())));
  // Written anew each time: the peers must fetch it from this core, as after a real product.
  std::ranges::fill(addend, static_cast<float>(collective.rank() + 1));
  time.begin_ns = NowNs();
  LOCKSTEP_RETURN_IF_ERROR(collective.AllReduceSum(out));
  time.end_ns = NowNs();
  return absl::OkStatus();
}

absl::Status SendReceiveOnce(Collective& collective, std::span<float> data, Interval& time) {
  if (collective.rank() > 1) return absl::OkStatus();
  int peer = 1 - collective.rank();
  std::span<std::byte> bytes = std::as_writable_bytes(data);
  time.begin_ns = NowNs();
  if (collective.rank() == 0) LOCKSTEP_RETURN_IF_ERROR(collective.Send(peer, bytes));
  LOCKSTEP_RETURN_IF_ERROR(collective.Receive(peer, bytes));
  if (collective.rank() == 1) LOCKSTEP_RETURN_IF_ERROR(collective.Send(peer, bytes));
  time.end_ns = NowNs();
  return absl::OkStatus();
}

absl::Status RunCase(Collective& collective, const Case& the_case, std::span<Interval> times) {
  std::vector<float> data(static_cast<size_t>(the_case.bytes) / 4);
  bool all_reduce = absl::GetFlag(FLAGS_operation) == "all_reduce";
  int64_t compute_us = the_case.with_compute ? absl::GetFlag(FLAGS_compute_us) : 0;
  int64_t warm_up = static_cast<int64_t>(times.size()) / 10;
  Interval unused;
  for (int64_t i = -warm_up; i < static_cast<int64_t>(times.size()); ++i) {
    if (compute_us > 0) Compute(compute_us);
    Interval& time = i < 0 ? unused : times[i];
    LOCKSTEP_RETURN_IF_ERROR(all_reduce ? AllReduceOnce(collective, data, time)
                                        : SendReceiveOnce(collective, data, time));
  }
  return absl::OkStatus();
}

double Quantile(std::vector<int64_t>& ns, double q) {
  size_t index = static_cast<size_t>(q * static_cast<double>(ns.size() - 1));
  std::ranges::nth_element(ns, ns.begin() + static_cast<std::ptrdiff_t>(index));
  return static_cast<double>(ns[index]) / 1000;
}

/// times[rank * iterations + i]: when rank was in operation i.
void Report(const Case& the_case, std::span<const Interval> times) {
  int ranks = absl::GetFlag(FLAGS_ranks);
  bool all_reduce = absl::GetFlag(FLAGS_operation) == "all_reduce";
  size_t iterations = times.size() / static_cast<size_t>(ranks);
  std::vector<int64_t> together, each;
  for (size_t i = 0; i < iterations; ++i) {
    Interval last = times[i];
    for (int rank = 0; rank < ranks; ++rank) {
      const Interval& own = times[static_cast<size_t>(rank) * iterations + i];
      last = {std::max(last.begin_ns, own.begin_ns), std::max(last.end_ns, own.end_ns)};
      each.push_back(own.end_ns - own.begin_ns);
    }
    together.push_back(all_reduce ? last.end_ns - last.begin_ns
                                  : (times[i].end_ns - times[i].begin_ns) / 2);
  }
  std::cout << absl::StrFormat(
                   "{\"benchmark\": \"%s\", \"transport\": \"%s\", \"ranks\": %d, \"bytes\": %d, "
                   "\"form\": \"%s\", \"median_us\": %.2f, \"p99_us\": %.2f, \"min_us\": %.2f, "
                   "\"rank_median_us\": %.2f}",
                   absl::GetFlag(FLAGS_operation), absl::GetFlag(FLAGS_transport), ranks,
                   the_case.bytes, the_case.with_compute ? "with_compute" : "back_to_back",
                   Quantile(together, 0.5), Quantile(together, 0.99), Quantile(together, 0),
                   Quantile(each, 0.5))
            << std::endl;
}

/// The life of one rank; times[case][rank][iteration].
absl::Status RunRank(Board& board, int rank, std::span<const Case> cases, Interval* times) {
  if (absl::GetFlag(FLAGS_pin)) Pin(rank);
  int64_t max_bytes = 0;
  for (const Case& the_case : cases) max_bytes = std::max(max_bytes, the_case.bytes);
  LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<Collective> collective, Join(board, rank, max_bytes));
  size_t iterations = static_cast<size_t>(absl::GetFlag(FLAGS_iterations));
  size_t ranks = static_cast<size_t>(absl::GetFlag(FLAGS_ranks));
  for (size_t i = 0; i < cases.size(); ++i) {
    Interval* own = times + (i * ranks + static_cast<size_t>(rank)) * iterations;
    LOCKSTEP_RETURN_IF_ERROR(RunCase(*collective, cases[i], {own, iterations}));
  }
  return absl::OkStatus();
}

int RunAll(std::span<const Case> cases) {
  int ranks = absl::GetFlag(FLAGS_ranks);
  size_t iterations = static_cast<size_t>(absl::GetFlag(FLAGS_iterations));
  size_t per_case = iterations * static_cast<size_t>(ranks);
  Board* board = MapShared<Board>(1);
  Interval* times = MapShared<Interval>(cases.size() * per_case);
  for (int rank = 0; rank < ranks; ++rank) {
    if (fork() != 0) continue;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    absl::Status status = RunRank(*board, rank, cases, times);
    if (!status.ok()) std::cerr << "rank " << rank << ": " << status << std::endl;
    _exit(status.ok() ? 0 : 1);
  }
  bool failed = false;
  for (int status; wait(&status) > 0;) failed |= status != 0;
  if (failed) return 1;
  for (size_t i = 0; i < cases.size(); ++i) Report(cases[i], {times + i * per_case, per_case});
  return 0;
}

int Main() {
  int ranks = absl::GetFlag(FLAGS_ranks);
  std::string transport = absl::GetFlag(FLAGS_transport);
  std::string operation = absl::GetFlag(FLAGS_operation);
  bool legal = ranks >= 2 && ranks <= kMaxRanks && absl::GetFlag(FLAGS_iterations) > 0 &&
               (transport == "shm" || transport == "tcp") &&
               (operation == "all_reduce" || operation == "send_receive");
  std::vector<Case> cases;
  for (const std::string& text : absl::GetFlag(FLAGS_bytes)) {
    int64_t bytes = 0;
    legal = legal && absl::SimpleAtoi(text, &bytes) && bytes > 0 && bytes % 4 == 0;
    cases.push_back({bytes, false});
    if (operation == "all_reduce") cases.push_back({bytes, true});
  }
  if (legal) return RunAll(cases);
  std::cerr << "legal are --ranks=2..8 --transport=shm|tcp --operation=all_reduce|send_receive "
               "--iterations=1.. and --bytes in multiples of 4\n";
  return 2;
}

}  // namespace
}  // namespace lockstep::worker

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return lockstep::worker::Main();
}
