// How sampled tokens get from the last stage back to the first, which embeds them.
#ifndef LOCKSTEP_WORKER_TOKEN_RETURN_H_
#define LOCKSTEP_WORKER_TOKEN_RETURN_H_

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "model/rank_shard.h"
#include "worker/collective/collective.h"
#include "worker/sequence_table.h"

namespace lockstep::worker {

/// With one stage the tokens stay where they were sampled. With more, every rank of the last stage
/// sends each step's tokens to the rank of the first stage with its tp_rank, in order of steps;
/// that receives them when a later batch needs one, so that it may run ahead by as many steps as
/// the pipeline is deep. Nothing waits in a circle: the messages travel in a group of their own and
/// are so small that all that are outstanding (pp_size + 2 of at most max_sequences tokens) fit
/// into the transport's buffers. Belongs to the compute thread.
class TokenReturn {
 public:
  /// `tokens` joins the stages of a tp_rank; nullptr with one stage.
  TokenReturn(const model::RankShard& shard, Collective* tokens) : shard_(shard), tokens_(tokens) {}

  /// First stage: fills in step.tokens of the pending rows. Blocks until the last stage has sampled
  /// them. Internal when a token is not there though it was sampled.
  absl::Status Resolve(Step& step, SequenceTable& table);

  /// Every stage, after its part of the step: `tokens` are those of step.samples on the last
  /// stage, and empty on the others.
  absl::Status Deliver(const Step& step, std::span<const int32_t> tokens);

 private:
  struct Awaited {
    uint64_t step_id;
    std::vector<uint64_t> sequence_ids;
  };

  absl::Status ReceiveOldest(SequenceTable& table);

  const model::RankShard shard_;
  Collective* const tokens_;
  std::deque<Awaited> awaited_;  // first of several stages: sampled or being sampled, not received
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_TOKEN_RETURN_H_
