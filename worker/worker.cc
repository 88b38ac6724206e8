// The threads and their meeting points. Decisions are Session's; this file carries them out.
#include "worker/worker.h"

#include <algorithm>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "glog/logging.h"
#include "worker/resident_memory.h"

namespace lockstep::worker {
namespace {

constexpr absl::Duration kFirstRedialDelay = absl::Milliseconds(50);
constexpr absl::Duration kMaxRedialDelay = absl::Seconds(2);
constexpr absl::Duration kHeartbeatInterval = absl::Milliseconds(100);
constexpr absl::Duration kLoadReportInterval = absl::Milliseconds(100);

v1::Phase ToWire(Phase phase) {
  switch (phase) {
    case Phase::kIdle:
      return v1::PHASE_IDLE;
    case Phase::kLoading:
      return v1::PHASE_LOADING;
    case Phase::kConnecting:
      return v1::PHASE_CONNECTING;
    case Phase::kComputing:
      return v1::PHASE_COMPUTING;
    case Phase::kWaitingForPeer:
      return v1::PHASE_WAITING_FOR_PEER;
  }
  return v1::PHASE_UNSPECIFIED;
}

std::string Text(const absl::Status& status) { return std::string(status.message()); }

}  // namespace

Worker::Worker(WorkerOptions options)
    : options_(std::move(options)),
      load_reported_at_(absl::InfinitePast()),
      redial_delay_(kFirstRedialDelay),
      compute_(options_.cpus, options_.threads),
      heartbeat_([this] { SendHeartbeats(); }) {}

Worker::~Worker() {
  Stop();
  heartbeat_.join();
}

void Worker::Run() {
  while (true) {
    {
      std::lock_guard lock(mutex_);
      if (stopping_) break;
    }
    ServeConnection();
    WaitBeforeRedial();
  }
  Disconnected("this worker is stopping");
}

void Worker::Stop() { Leave("this worker is stopping"); }

void Worker::Leave(const std::string& reason) {
  std::lock_guard lock(mutex_);
  if (!std::exchange(stopping_, true)) LOG(INFO) << "stopping: " << reason;
  // From here on what the epoch reports is of no interest.
  session_.OnDisconnected(reason);
  if (run_) run_->Abort(reason);
  run_.reset();
  if (stream_) stream_->Cancel();
  changed_.notify_all();
}

void Worker::ServeConnection() {
  std::shared_ptr<CoordinatorClient> client = options_.dial();
  std::shared_ptr<JoinStream> stream = client->Join();
  {
    std::lock_guard lock(mutex_);
    if (stopping_) stream->Cancel();
    client_ = std::move(client);
    stream_ = stream;
  }
  absl::Status ended = absl::OkStatus();
  if (Register(*stream)) ended = ReceiveUntilBroken(*stream);
  if (ended.ok()) {
    ended = stream->Finish();
  } else {
    stream->Cancel();
    stream->Finish().IgnoreError();
  }
  Disconnected(
      absl::StrCat("the coordinator is gone: ", ended.ok() ? "stream closed" : Text(ended)));
}

bool Worker::Register(JoinStream& stream) {
  v1::JoinRequest message;
  *message.mutable_register_() = options_.registration;
  {
    std::lock_guard lock(mutex_);
    message.mutable_register_()->set_highest_epoch(session_.highest_epoch());
  }
  return stream.Send(message);
}

absl::Status Worker::ReceiveUntilBroken(JoinStream& stream) {
  while (std::optional<v1::JoinResponse> message = stream.Receive()) {
    SessionCommands commands;
    {
      std::lock_guard lock(mutex_);
      absl::StatusOr<SessionCommands> result = session_.OnMessage(*message);
      if (!result.ok()) return result.status();
      commands = *std::move(result);
      if (message->has_welcome()) {
        joined_ = true;
        redial_delay_ = kFirstRedialDelay;
        LOG(INFO) << "joined the coordinator, version " << message->welcome().coordinator_version();
      }
    }
    for (const SessionCommand& command : commands) Execute(command);
  }
  return absl::OkStatus();
}

void Worker::Disconnected(const std::string& reason) {
  SessionCommands commands;
  {
    std::lock_guard lock(mutex_);
    if (joined_) LOG(WARNING) << reason;
    joined_ = false;
    stream_.reset();
    commands = session_.OnDisconnected(reason);
  }
  for (const SessionCommand& command : commands) Execute(command);
}

void Worker::WaitBeforeRedial() {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, absl::ToChronoNanoseconds(redial_delay_), [this] { return stopping_; });
  redial_delay_ = std::min(2 * redial_delay_, kMaxRedialDelay);
}

void Worker::SendHeartbeats() {
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, absl::ToChronoNanoseconds(kHeartbeatInterval),
                            [this] { return stopping_; })) {
    if (!joined_) continue;
    lock.unlock();
    const Progress::Snapshot now = progress_.Read();
    v1::JoinRequest message;
    v1::Progress& progress = *message.mutable_heartbeat()->mutable_progress();
    progress.set_epoch(now.epoch);
    progress.set_step_id(now.step_id);
    progress.set_phase(ToWire(now.phase));
    progress.set_age_us(now.age_ns / 1000);
    progress.set_resident_bytes(ResidentBytes());
    Send(message);
    lock.lock();
  }
}

void Worker::Execute(const SessionCommand& command) {
  std::visit(
      [this](const auto& c) {
        using C = std::decay_t<decltype(c)>;
        if constexpr (std::is_same_v<C, BeginEpoch>) Begin(c.assignment);
        if constexpr (std::is_same_v<C, FormEpoch>) Form(c.peers);
        if constexpr (std::is_same_v<C, EndEpoch>) End(c.epoch, c.reason);
        if constexpr (std::is_same_v<C, Exit>) Leave(c.reason);
      },
      command);
}

void Worker::Begin(const v1::Assignment& assignment) {
  LOG(INFO) << "epoch " << assignment.epoch() << ": rank " << assignment.rank() << " (tp "
            << assignment.tp_rank() << " of " << assignment.tp_size() << ", stage "
            << assignment.pp_stage() << " of " << assignment.pp_size() << ")";
  auto run = EpochRun::Create(assignment, options_.data_interface);
  if (!run.ok()) return ReportFailure(assignment.epoch(), run.status());
  v1::JoinRequest message;
  message.mutable_addresses()->set_epoch(assignment.epoch());
  for (auto& [group, address] : (*run)->addresses()) {
    (*message.mutable_addresses()->mutable_address_by_group())[group] = address;
  }
  {
    std::lock_guard lock(mutex_);
    run_ = *std::move(run);
  }
  Send(message);
}

void Worker::Form(const v1::CollectivePeers& peers) {
  std::lock_guard lock(mutex_);
  if (!run_ || run_->epoch() != peers.epoch()) return;
  compute_.Post([this, run = run_, peers](ComputeState& state) { RunEpoch(state, run, peers); });
}

void Worker::End(uint64_t epoch, const std::string& reason) {
  std::shared_ptr<EpochRun> run;
  {
    std::lock_guard lock(mutex_);
    run = std::exchange(run_, nullptr);
  }
  LOG(INFO) << "epoch " << epoch << " ends: " << reason;
  if (run) run->Abort(reason);
}

void Worker::RunEpoch(ComputeState& state, std::shared_ptr<EpochRun> run,
                      const v1::CollectivePeers& peers) {
  absl::StatusOr<v1::Ready> ready =
      run->Form(peers, state.held, state.pool, progress_,
                [&](int64_t loaded, int64_t total) { ReportLoad(run->epoch(), loaded, total); });
  if (!ready.ok()) return ReportFailure(run->epoch(), ready.status());
  std::shared_ptr<CoordinatorClient> client;
  {
    std::lock_guard lock(mutex_);
    if (!session_.OnFormed(run->epoch())) return;
    client = client_;
  }
  LOG(INFO) << "epoch " << run->epoch() << ": ready, " << ready->weight_bytes()
            << " bytes of weights, " << ready->kv_bytes() << " of cache, loaded in "
            << ready->load_us() / 1000 << " ms";
  v1::JoinRequest message;
  *message.mutable_ready() = *ready;
  Send(message);
  std::unique_ptr<BatchStream> stream = client->Execute(run->epoch(), run->rank());
  absl::Status ended = run->Serve(*stream, progress_);
  if (!ended.ok()) ReportFailure(run->epoch(), ended);
}

void Worker::ReportLoad(uint64_t epoch, int64_t loaded_bytes, int64_t total_bytes) {
  const absl::Time now = absl::Now();
  if (loaded_bytes < total_bytes && now - load_reported_at_ < kLoadReportInterval) return;
  load_reported_at_ = now;
  v1::JoinRequest message;
  message.mutable_load_progress()->set_epoch(epoch);
  message.mutable_load_progress()->set_loaded_bytes(loaded_bytes);
  message.mutable_load_progress()->set_total_bytes(total_bytes);
  Send(message);
}

void Worker::ReportFailure(uint64_t epoch, const absl::Status& status) {
  std::shared_ptr<EpochRun> run;
  {
    std::lock_guard lock(mutex_);
    if (!session_.OnFailed(epoch)) return;
    run = std::exchange(run_, nullptr);
  }
  LOG(ERROR) << "epoch " << epoch << " failed: " << status;
  // Peers that wait for this rank learn of it at once.
  if (run) run->Abort(Text(status));
  v1::JoinRequest message;
  message.mutable_epoch_failed()->set_epoch(epoch);
  message.mutable_epoch_failed()->set_code(static_cast<int32_t>(status.code()));
  message.mutable_epoch_failed()->set_message(Text(status));
  Send(message);
}

void Worker::Send(const v1::JoinRequest& message) {
  std::shared_ptr<JoinStream> stream;
  {
    std::lock_guard lock(mutex_);
    stream = stream_;
  }
  // A broken stream shows in Receive.
  if (stream) stream->Send(message);
}

}  // namespace lockstep::worker
