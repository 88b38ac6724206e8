// Forming and serving one epoch.
#include "worker/epoch_run.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "model/config.h"
#include "model/parallel_plan.h"

namespace lockstep::worker {
namespace {

// Peers answer an assignment at once and connect before they load.
constexpr absl::Duration kConnectTimeout = absl::Seconds(30);

absl::Status CheckPlan(const v1::Assignment& a, const model::DecoderSpec& spec) {
  const std::vector<int> tp_sizes = model::LegalTpSizes(spec);
  const std::vector<int> pp_sizes = model::LegalPpSizes(spec);
  auto legal = [](const std::vector<int>& sizes, uint32_t size) {
    return std::find(sizes.begin(), sizes.end(), static_cast<int>(size)) != sizes.end();
  };
  if (!legal(tp_sizes, a.tp_size()) || !legal(pp_sizes, a.pp_size())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "TP ", a.tp_size(), " x PP ", a.pp_size(), " is not legal for this model; legal: TP ",
        absl::StrJoin(tp_sizes, ", "), "; PP ", absl::StrJoin(pp_sizes, ", ")));
  }
  if (a.tp_rank() >= a.tp_size() || a.pp_stage() >= a.pp_size()) {
    return absl::InvalidArgumentError(absl::StrCat("tp_rank ", a.tp_rank(), " of ", a.tp_size(),
                                                   ", pp_stage ", a.pp_stage(), " of ",
                                                   a.pp_size()));
  }
  return absl::OkStatus();
}

absl::Status CheckLimits(const v1::Assignment& a) {
  constexpr uint32_t kMost = 1u << 30;
  auto sane = [](uint32_t value) { return value >= 1 && value <= kMost; };
  if (sane(a.kv_blocks()) && sane(a.max_batch_tokens()) && sane(a.max_sequences()) &&
      sane(a.context_tokens())) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("limits must lie in [1, ", kMost, "]: kv_blocks ", a.kv_blocks(),
                   ", max_batch_tokens ", a.max_batch_tokens(), ", max_sequences ",
                   a.max_sequences(), ", context_tokens ", a.context_tokens()));
}

// The type of weights and cache in memory; fp16 occurs in files only.
absl::StatusOr<DType> ComputeType(const std::string& name) {
  std::optional<DType> dtype = ParseDType(name);
  if (dtype == DType::kF32 || dtype == DType::kBF16) return *dtype;
  return absl::InvalidArgumentError(
      absl::StrCat("dtype '", name, "' is not one of fp32 and bf16 (--dtype)"));
}

}  // namespace

EpochRun::EpochRun(const v1::Assignment& assignment, model::DecoderSpec spec, DType dtype)
    : assigned_at_(absl::Now()),
      assignment_(assignment),
      spec_(std::move(spec)),
      shard_(model::MakeShard(spec_, assignment.tp_size(), assignment.pp_size(),
                              assignment.tp_rank(), assignment.pp_stage())),
      dtype_(dtype) {}

absl::StatusOr<std::shared_ptr<EpochRun>> EpochRun::Create(const v1::Assignment& assignment,
                                                           const std::string& data_interface) {
  LOCKSTEP_ASSIGN_OR_RETURN(model::DecoderSpec spec,
                            model::ParseDecoderSpec(assignment.model().config_json()));
  LOCKSTEP_RETURN_IF_ERROR(CheckPlan(assignment, spec));
  LOCKSTEP_RETURN_IF_ERROR(CheckLimits(assignment));
  LOCKSTEP_ASSIGN_OR_RETURN(DType dtype, ComputeType(assignment.model().dtype()));
  const int64_t addends = spec.hidden_size * assignment.max_batch_tokens();
  std::shared_ptr<EpochRun> run(new EpochRun(assignment, std::move(spec), dtype));
  LOCKSTEP_ASSIGN_OR_RETURN(run->setup_,
                            RankGroupsSetup::Create(assignment, addends, data_interface));
  return run;
}

absl::StatusOr<v1::Ready> EpochRun::Form(const v1::CollectivePeers& peers, HeldModel& held,
                                         kernels::ThreadPool& pool, Progress& progress,
                                         const LoadProgressFn& on_load) {
  progress.StartEpoch(epoch());
  PhaseScope connecting(progress, Phase::kConnecting);
  LOCKSTEP_RETURN_IF_ERROR(setup_->Connect(peers, absl::Now() + kConnectTimeout, progress));
  PhaseScope loading(progress, Phase::kLoading);
  bool loaded = false;
  LOCKSTEP_RETURN_IF_ERROR(held.Ensure(
      assignment_.model(), spec_, shard_, dtype_, pool,
      [&](int64_t loaded_bytes, int64_t total_bytes) {
        progress.Touch();
        on_load(loaded_bytes, total_bytes);
      },
      [this] { return aborted(); }, loaded));
  const absl::Duration load_time = absl::Now() - assigned_at_;
  LOCKSTEP_ASSIGN_OR_RETURN(runner_,
                            StepRunner::Create({spec_, shard_, dtype_, Limits()}, held.weights(),
                                               setup_->groups(), pool, [this, &progress] {
                                                 progress.Touch();
                                                 return CheckNotAborted();
                                               }));
  v1::Ready ready;
  ready.set_epoch(epoch());
  ready.set_weight_bytes(held.weights().bytes);
  ready.set_kv_bytes(runner_->kv_bytes());
  ready.set_load_us(loaded ? absl::ToInt64Microseconds(load_time) : 0);
  return ready;
}

absl::Status EpochRun::Serve(BatchStream& stream, Progress& progress) {
  {
    std::lock_guard lock(mutex_);
    if (aborted()) return absl::AbortedError(abort_reason_);
    stream_ = &stream;
  }
  auto serve = [&]() -> absl::Status {
    int64_t previous_end_ns = SteadyNowNs();
    while (true) {
      LOCKSTEP_ASSIGN_OR_RETURN(std::optional<v1::StepBatch> batch, stream.Next());
      if (!batch) return absl::OkStatus();
      progress.StartStep(batch->step_id());
      LOCKSTEP_ASSIGN_OR_RETURN(v1::StepResult result, TimedStep(*batch, previous_end_ns));
      previous_end_ns = SteadyNowNs();
      progress.Enter(Phase::kIdle);
      // A broken stream shows in the next call of Next.
      stream.Give(std::move(result));
    }
  };
  absl::Status status = serve();
  progress.Enter(Phase::kIdle);
  std::lock_guard lock(mutex_);
  stream_ = nullptr;
  return status;
}

absl::StatusOr<v1::StepResult> EpochRun::TimedStep(const v1::StepBatch& batch,
                                                   int64_t previous_end_ns) {
  const int64_t start_ns = SteadyNowNs();
  const int64_t wait_ns = setup_->groups().wait_ns();
  LOCKSTEP_ASSIGN_OR_RETURN(v1::StepResult result, runner_->Run(batch));
  result.set_step_ns(SteadyNowNs() - start_ns);
  result.set_wait_ns(setup_->groups().wait_ns() - wait_ns);
  result.set_gap_ns(start_ns - previous_end_ns);
  return result;
}

void EpochRun::Abort(const std::string& reason) {
  std::lock_guard lock(mutex_);
  if (aborted()) return;
  abort_reason_ = reason;
  aborted_.store(true, std::memory_order_relaxed);
  setup_->Abort(reason);
  if (stream_ != nullptr) stream_->Cancel();
}

absl::Status EpochRun::CheckNotAborted() {
  if (!aborted()) return absl::OkStatus();
  std::lock_guard lock(mutex_);
  return absl::AbortedError(abort_reason_);
}

SequenceLimits EpochRun::Limits() const {
  return {.epoch = epoch(),
          .kv_blocks = assignment_.kv_blocks(),
          .max_batch_tokens = assignment_.max_batch_tokens(),
          .max_sequences = assignment_.max_sequences(),
          .context_tokens = assignment_.context_tokens(),
          .vocab_size = spec_.vocab_size};
}

}  // namespace lockstep::worker
