// See shard_processes.h.
#include "tests/sampling/shard_processes.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "coordinator/cluster/cluster_config.h"
#include "model/config.h"
#include "model/parallel_plan.h"

namespace lockstep::tests {
namespace {

constexpr absl::Duration kDeadline = absl::Minutes(3);

absl::StatusOr<coordinator::ClusterConfig> ConfigOf(const ShardProcessesOptions& options) {
  LOCKSTEP_ASSIGN_OR_RETURN(model::DecoderSpec spec, model::ParseDecoderSpec(options.config_json));
  coordinator::ClusterConfig config;
  LOCKSTEP_ASSIGN_OR_RETURN(config.plan,
                            model::MakeParallelPlan(spec, {.tp_size = options.tp,
                                                           .batch_tokens = options.max_batch_tokens,
                                                           .dtype = DType::kF32}));
  config.model.set_directory(options.model_directory);
  config.model.set_config_json(options.config_json);
  config.model.set_load_format(v1::LOAD_FORMAT_SAFETENSORS);
  config.model.set_dtype("fp32");
  config.model_name = "random";
  config.architecture = "LlamaForCausalLM";
  config.max_sequences = options.max_sequences;
  return config;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ShardProcesses>> ShardProcesses::Start(
    const ShardProcessesOptions& options) {
  LOCKSTEP_ASSIGN_OR_RETURN(coordinator::ClusterConfig config, ConfigOf(options));
  std::unique_ptr<ShardProcesses> processes(new ShardProcesses(std::move(config)));
  for (int rank = 0; rank < options.tp; ++rank) {
    const std::filesystem::path log =
        options.model_directory / absl::StrCat("workerd-", options.tp, "-", rank, ".log");
    LOCKSTEP_ASSIGN_OR_RETURN(
        coordinator::ChildProcess worker,
        coordinator::ChildProcess::Start(
            {options.workerd, absl::StrCat("--coordinator=", processes->cluster_.address()),
             "--device=cpu:0", "--threads=1", "--node=test", "--data-interface=127.0.0.1",
             "--device-memory=1GiB", absl::StrCat("--local-index=", rank)},
            log));
    processes->workers_.push_back(std::move(worker));
  }
  processes->group_ = processes->observer_.AwaitGroup();
  if (processes->group_ == nullptr) {
    return absl::DeadlineExceededError(
        absl::StrCat("TP ", options.tp, " did not form; the log of rank 0 ends in:\n",
                     coordinator::Tail(processes->workers_[0].log_file(), 20)));
  }
  return processes;
}

void ShardProcesses::Submit(v1::StepBatch batch) {
  batch.set_epoch(group_->limits().epoch);
  batch.set_step_id(++step_id_);
  group_->Submit(batch);
}

absl::StatusOr<v1::StepResult> ShardProcesses::Next() { return observer_.AwaitResult(); }

void ShardProcesses::Observer::OnGroupFormed(std::shared_ptr<coordinator::RankGroup> group) {
  absl::MutexLock lock(&mutex_);
  group_ = std::move(group);
}

void ShardProcesses::Observer::OnStepDone(const v1::StepResult& result) {
  absl::MutexLock lock(&mutex_);
  results_.push_back(result);
}

void ShardProcesses::Observer::OnGroupLost(uint64_t epoch, const absl::Status& reason) {
  absl::MutexLock lock(&mutex_);
  lost_ = reason;
}

std::shared_ptr<coordinator::RankGroup> ShardProcesses::Observer::AwaitGroup() {
  absl::MutexLock lock(&mutex_);
  auto formed = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return group_ != nullptr; };
  mutex_.AwaitWithTimeout(absl::Condition(&formed), kDeadline);
  return group_;
}

absl::StatusOr<v1::StepResult> ShardProcesses::Observer::AwaitResult() {
  absl::MutexLock lock(&mutex_);
  auto told = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !results_.empty() || !lost_.ok();
  };
  if (!mutex_.AwaitWithTimeout(absl::Condition(&told), kDeadline)) {
    return absl::DeadlineExceededError("no answer to a batch within three minutes");
  }
  if (results_.empty()) return lost_;
  v1::StepResult result = std::move(results_.front());
  results_.pop_front();
  return result;
}

}  // namespace lockstep::tests
