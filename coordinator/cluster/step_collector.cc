// A short queue of steps on their way.
#include "coordinator/cluster/step_collector.h"

#include <utility>

#include "absl/strings/str_format.h"

namespace lockstep::coordinator {

StepCollector::StepCollector(uint64_t epoch, uint32_t world_size, uint32_t reporting_rank)
    : epoch_(epoch),
      world_size_(world_size),
      reporting_rank_(reporting_rank),
      next_step_(world_size, 1) {}

absl::StatusOr<std::optional<v1::StepResult>> StepCollector::Take(uint32_t rank,
                                                                  v1::StepResult result,
                                                                  uint64_t submitted) {
  const uint64_t step = next_step_[rank];
  if (result.epoch() != epoch_ || result.step_id() != step || step > submitted) {
    return absl::InternalError(absl::StrFormat(
        "rank %d answered step %d of epoch %d; its next is step %d of epoch %d, and %d were sent",
        rank, result.step_id(), result.epoch(), step, epoch_, submitted));
  }
  ++next_step_[rank];
  const size_t index = step - first_pending_;
  if (index == pending_.size()) pending_.emplace_back();
  Pending& pending = pending_[index];
  if (pending.answers == 0) {
    pending.first_rank = rank;
    pending.digest = result.state_digest();
  } else if (pending.digest != result.state_digest()) {
    return absl::InternalError(absl::StrFormat(
        "after step %d the ranks disagree on the state of the sequences: digest %016x on rank %d, "
        "%016x on rank %d",
        step, pending.digest, pending.first_rank, result.state_digest(), rank));
  }
  if (rank == reporting_rank_) pending.reported = std::move(result);
  if (++pending.answers < world_size_) return std::nullopt;
  v1::StepResult reported = std::move(pending.reported);
  pending_.pop_front();
  ++first_pending_;
  return reported;
}

}  // namespace lockstep::coordinator
