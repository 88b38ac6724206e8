// Blocking streams, one thread each.
#include "coordinator/cluster/testing/fake_worker.h"

#include <algorithm>
#include <utility>

#include "base/version.h"

namespace lockstep::coordinator {

FakeWorker::FakeWorker(std::shared_ptr<grpc::Channel> channel, Options options)
    : options_(std::move(options)), stub_(v1::ClusterService::NewStub(channel)) {
  join_ = stub_->Join(&join_context_);
  v1::JoinRequest message;
  v1::Register& registration = *message.mutable_register_();
  registration.set_protocol_version(kProtocolVersion);
  registration.set_worker_id(options_.worker_id);
  registration.set_node(options_.node);
  registration.set_shm_domain(options_.node);
  registration.set_device("fake:" + std::to_string(options_.local_index));
  registration.set_local_index(options_.local_index);
  registration.set_memory_bytes(options_.memory_bytes);
  registration.set_highest_epoch(options_.highest_epoch);
  Send(message);
  control_ = std::thread([this] { RunControl(); });
}

FakeWorker::~FakeWorker() {
  Kill();
  control_.join();
}

std::vector<v1::JoinRequest> FakeWorker::Obey(const v1::JoinResponse& message) {
  std::vector<v1::JoinRequest> answers;
  if (message.has_assignment()) {
    v1::CollectiveAddresses& addresses = *answers.emplace_back().mutable_addresses();
    addresses.set_epoch(message.assignment().epoch());
    for (const v1::CollectiveGroup& group : message.assignment().groups()) {
      (*addresses.mutable_address_by_group())[group.name()] =
          group.name() + "/" + std::to_string(group.rank());
    }
  }
  if (message.has_peers()) {
    v1::LoadProgress& progress = *answers.emplace_back().mutable_load_progress();
    progress.set_epoch(message.peers().epoch());
    progress.set_loaded_bytes(1000);
    progress.set_total_bytes(1000);
    v1::Ready& ready = *answers.emplace_back().mutable_ready();
    ready.set_epoch(message.peers().epoch());
    ready.set_weight_bytes(1000);
    ready.set_kv_bytes(2000);
  }
  return answers;
}

std::optional<v1::StepResult> FakeWorker::Answer(const v1::Assignment& assignment,
                                                 const v1::StepBatch& batch) {
  v1::StepResult result;
  result.set_epoch(batch.epoch());
  result.set_step_id(batch.step_id());
  result.set_state_digest(batch.step_id() * 0x9e3779b97f4a7c15);
  result.set_step_ns(1000);
  result.set_wait_ns(100);
  const bool reports =
      assignment.pp_stage() + 1 == assignment.pp_size() && assignment.tp_rank() == 0;
  if (!reports) return result;
  for (const v1::SequenceChunk& chunk : batch.chunks()) {
    if (!chunk.sample()) continue;
    v1::SampledToken& token = *result.add_sampled();
    token.set_sequence_id(chunk.sequence_id());
    token.set_token_id(static_cast<int32_t>(chunk.first_position()) +
                       std::max(chunk.token_ids_size(), 1));
  }
  return result;
}

void FakeWorker::Send(const v1::JoinRequest& message) {
  absl::MutexLock lock(&write_mutex_);
  join_->Write(message);
}

void FakeWorker::Kill() {
  join_context_.TryCancel();
  BreakExecute();
}

void FakeWorker::BreakExecute() {
  absl::MutexLock lock(&mutex_);
  if (execute_context_ != nullptr) execute_context_->TryCancel();
}

std::vector<v1::JoinResponse> FakeWorker::messages() const {
  absl::MutexLock lock(&mutex_);
  return messages_;
}

std::vector<std::string> FakeWorker::batches() const {
  absl::MutexLock lock(&mutex_);
  return batches_;
}

bool FakeWorker::WaitForMessage(v1::JoinResponse::MessageCase kind, absl::Duration timeout) const {
  absl::MutexLock lock(&mutex_);
  auto came = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (const v1::JoinResponse& message : messages_) {
      if (message.message_case() == kind) return true;
    }
    return false;
  };
  return mutex_.AwaitWithTimeout(absl::Condition(&came), timeout);
}

std::optional<grpc::Status> FakeWorker::WaitForEnd(absl::Duration timeout) const {
  absl::MutexLock lock(&mutex_);
  auto ended = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return end_.has_value(); };
  mutex_.AwaitWithTimeout(absl::Condition(&ended), timeout);
  return end_;
}

void FakeWorker::RunControl() {
  v1::JoinResponse message;
  while (join_->Read(&message)) {
    {
      absl::MutexLock lock(&mutex_);
      messages_.push_back(message);
      if (message.has_assignment()) assignment_ = message.assignment();
    }
    if (message.has_abort_epoch()) BreakExecute();
    if (message.has_shutdown()) break;
    for (const v1::JoinRequest& answer : options_.on_control(message)) {
      Send(answer);
      if (answer.has_ready()) OpenExecute(answer.ready().epoch());
    }
  }
  BreakExecute();
  if (execute_.joinable()) execute_.join();
  {
    absl::MutexLock lock(&write_mutex_);
    join_->WritesDone();
  }
  grpc::Status status = join_->Finish();
  absl::MutexLock lock(&mutex_);
  end_ = status;
}

void FakeWorker::OpenExecute(uint64_t epoch) {
  BreakExecute();
  if (execute_.joinable()) execute_.join();
  absl::MutexLock lock(&mutex_);
  if (assignment_.epoch() != epoch) return;
  execute_context_ = std::make_shared<grpc::ClientContext>();
  execute_ = std::thread([this, assignment = assignment_, context = execute_context_] {
    RunExecute(assignment, context);
  });
}

void FakeWorker::RunExecute(const v1::Assignment& assignment,
                            std::shared_ptr<grpc::ClientContext> context) {
  auto stream = stub_->Execute(context.get());
  v1::ExecuteRequest request;
  request.mutable_hello()->set_epoch(assignment.epoch());
  request.mutable_hello()->set_rank(assignment.rank());
  stream->Write(request);
  v1::ExecuteResponse response;
  while (stream->Read(&response)) {
    if (options_.keep_batches) {
      absl::MutexLock lock(&mutex_);
      batches_.push_back(response.SerializeAsString());
    }
    std::optional<v1::StepResult> result = options_.on_batch(assignment, response.batch());
    if (!result) continue;
    *request.mutable_result() = *std::move(result);
    stream->Write(request);
  }
  stream->Finish();
}

}  // namespace lockstep::coordinator
