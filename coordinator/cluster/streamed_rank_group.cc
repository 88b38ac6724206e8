// Fan-out of batches and gathering of answers.
#include "coordinator/cluster/streamed_rank_group.h"

#include <grpcpp/impl/codegen/proto_utils.h>

#include <optional>
#include <utility>

#include "absl/time/clock.h"

namespace lockstep::coordinator {
namespace {

grpc::ByteBuffer Serialize(const v1::StepBatch& batch) {
  v1::ExecuteResponse response;
  // Lent, since a copy would cost more than the rest; only read, and taken back below.
  response.set_allocated_batch(const_cast<v1::StepBatch*>(&batch));
  grpc::ByteBuffer bytes;
  bool owned = false;
  // Fails only for messages beyond 2 GiB; max_batch_tokens keeps batches far below.
  grpc::SerializationTraits<v1::ExecuteResponse>::Serialize(response, &bytes, &owned);
  (void)response.release_batch();
  return bytes;
}

uint32_t WorldSize(const GroupLimits& limits, uint32_t tp_size) { return tp_size * limits.pp_size; }

}  // namespace

StreamedRankGroup::StreamedRankGroup(const GroupLimits& limits, uint32_t tp_size,
                                     GroupObserver* observer, FailureHandler on_failure)
    : limits_(limits),
      observer_(observer),
      on_failure_(std::move(on_failure)),
      collector_(limits.epoch, WorldSize(limits, tp_size), (limits.pp_size - 1) * tp_size),
      links_(WorldSize(limits, tp_size)),
      times_(WorldSize(limits, tp_size)) {}

void StreamedRankGroup::Submit(const v1::StepBatch& batch) {
  grpc::ByteBuffer bytes = Serialize(batch);
  absl::MutexLock lock(&submit_mutex_);
  if (links_.empty()) return;
  submitted_.store(batch.step_id(), std::memory_order_release);
  for (const std::shared_ptr<BatchLink>& link : links_) link->Send(bytes);
}

void StreamedRankGroup::AddStream(uint32_t rank, std::shared_ptr<BatchLink> link) {
  absl::MutexLock lock(&submit_mutex_);
  links_[rank] = std::move(link);
}

void StreamedRankGroup::Announce() {
  absl::MutexLock lock(&results_mutex_);
  observer_->OnGroupFormed(shared_from_this());
}

void StreamedRankGroup::TakeResult(uint32_t rank, v1::StepResult result) {
  {
    absl::MutexLock lock(&times_mutex_);
    times_[rank].Add(result, absl::Now());
  }
  absl::Status failure;
  {
    absl::MutexLock lock(&results_mutex_);
    if (results_closed_) return;
    absl::StatusOr<std::optional<v1::StepResult>> done =
        collector_.Take(rank, std::move(result), submitted_.load(std::memory_order_acquire));
    if (done.ok() && done->has_value()) observer_->OnStepDone(**done);
    results_closed_ = !done.ok();
    failure = done.status();
  }
  if (!failure.ok()) on_failure_(limits_.epoch, failure);
}

void StreamedRankGroup::Close(const absl::Status& reason) {
  {
    absl::MutexLock lock(&results_mutex_);
    results_closed_ = true;
  }
  std::vector<std::shared_ptr<BatchLink>> links;
  {
    absl::MutexLock lock(&submit_mutex_);
    links.swap(links_);
  }
  for (const std::shared_ptr<BatchLink>& link : links) {
    if (link != nullptr) link->Close(reason);
  }
}

std::vector<RankStepTimes> StreamedRankGroup::Times() const {
  absl::MutexLock lock(&times_mutex_);
  std::vector<RankStepTimes> times;
  for (const StepTimes& rank : times_) times.push_back(rank.Read());
  return times;
}

}  // namespace lockstep::coordinator
