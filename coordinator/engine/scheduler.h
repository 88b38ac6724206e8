// Decides what the next step computes. A pure function: all that it knows is in the snapshot, all
// that it decides is in the decision, and the engine carries it out.
//
// A sequence's life: admitted with blocks for all tokens that are known; prefilled in chunks, of
// which the last one samples; then decoded row by row, with one more block whenever it crosses a
// block's border. Where a decode finds no block, the youngest running sequence is preempted: it
// loses its blocks and is prefilled again later from its tokens.
//
// Policy: decodes first, the longest waiting ones in front; then chunks of running prefills, oldest
// first; then admission in order of arrival. With pipeline stages the decodes are spread over
// pp_size successive batches, since a sequence whose token is still under way would hold up the
// first stage; only if there is nothing else is it queued behind its own last step.
#ifndef LOCKSTEP_COORDINATOR_ENGINE_SCHEDULER_H_
#define LOCKSTEP_COORDINATOR_ENGINE_SCHEDULER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace lockstep::coordinator {

/// A sequence that holds blocks.
struct RunningSequence {
  int64_t rows = 0;          // handed out so far: the next row's position
  int64_t prefill_rows = 0;  // known tokens at admission; it decodes once rows has got there
  int64_t blocks = 0;
  int samples_under_way = 0;  // tokens that outstanding batches sample
  bool wants_sample = true;   // false: those under way reach max_tokens
  uint64_t last_sample_step = 0;
  bool operator==(const RunningSequence&) const = default;
};

/// A request that waits for admission.
struct WaitingSequence {
  int64_t tokens = 0;  // known: the prompt, and what it had generated before it lost its blocks
  bool operator==(const WaitingSequence&) const = default;
};

struct ScheduleSnapshot {
  uint64_t step_id = 1;  // of the batch that is to be composed
  int outstanding_batches = 0;
  int pp_size = 1;
  int64_t max_batch_tokens = 0;  // rows of one batch
  int64_t max_sequences = 0;     // holding blocks at once
  int64_t free_blocks = 0;
  std::vector<RunningSequence> running;  // oldest first
  std::vector<WaitingSequence> waiting;  // in the order of admission
};

/// Rows for one sequence, by its index in the snapshot's `running` or `waiting`.
struct ScheduledChunk {
  size_t index = 0;
  int64_t rows = 0;
  int64_t new_blocks = 0;
  bool sample = false;  // the token after the last row
  bool operator==(const ScheduledChunk&) const = default;
};

struct ScheduleDecision {
  std::vector<size_t> preempted;         // of running; their blocks are free for this very batch
  std::vector<ScheduledChunk> running;   // decodes, then prefills; ascending index in each
  std::vector<ScheduledChunk> admitted;  // waiting 0, 1, ... in order
  bool empty() const { return preempted.empty() && running.empty() && admitted.empty(); }
  bool operator==(const ScheduleDecision&) const = default;
};

/// Tokens of one sequence that may be under way: the next decode queues behind the running one.
inline constexpr int kMaxSamplesUnderWay = 2;

/// At most this many batches may be outstanding, so that no stage waits for the coordinator.
constexpr int MaxOutstandingBatches(int pp_size) { return pp_size + 1; }

/// The next batch; empty if there is nothing to do or enough is outstanding already. Never hands
/// out more than free_blocks plus what it preempts, nor more than max_batch_tokens rows. The oldest
/// running sequence is never preempted in favour of another, so that each gets its turn, provided
/// that every sequence alone fits into the pool, which the engine checks.
ScheduleDecision Schedule(const ScheduleSnapshot& snapshot);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_ENGINE_SCHEDULER_H_
