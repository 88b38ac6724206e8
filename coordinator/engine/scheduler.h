// Decides what the next step computes. A pure function: all that it knows is in the snapshot, all
// that it decides is in the decision, and the engine carries it out.
//
// A sequence's life: admitted with blocks for all tokens that are known, the first of them perhaps
// shared with others and computed already; prefilled in chunks, of which the last one samples; then
// decoded row by row, with one more block whenever it crosses a block's border. Where a decode
// finds no block, the last running sequence is preempted: it loses its blocks and is prefilled
// again later from its tokens.
//
// Policy: decodes first, the longest waiting ones in front; then prefills. Order among sequences is
// by priority, then by age; all that arrives with the same priority is served in turn.
//  - Admission is in that order, as long as there is room. One of a more urgent priority than some
//    that run takes their place if there is none.
//  - Fair to short ones: up to half of a batch's prefill rows go to prompts that they suffice to
//  end,
//    the shortest first, whoever came before; the others are prefilled in order. So a short prompt
//    does not wait for a long one, and the first in order gets half of every batch at least. An
//    overtaken one keeps the room that it found.
//  - With pipeline stages the decodes are spread over pp_size successive batches, since a sequence
//    whose token is still under way would hold up the first stage; only if there is nothing else is
//    it queued behind its own last step. Prefills are cut (PrefillRowsPerBatch) so that one alone
//    keeps all stages busy.
#ifndef LOCKSTEP_COORDINATOR_ENGINE_SCHEDULER_H_
#define LOCKSTEP_COORDINATOR_ENGINE_SCHEDULER_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace lockstep::coordinator {

/// A sequence that holds blocks.
struct RunningSequence {
  int64_t rows = 0;          // handed out so far, or shared: the next row's position
  int64_t prefill_rows = 0;  // known tokens at admission; it decodes once rows has got there
  int64_t blocks = 0;
  int64_t own_blocks = 0;     // of them, those that come free when it is preempted, at least
  int samples_under_way = 0;  // tokens that outstanding batches sample
  bool wants_sample = true;   // false: those under way reach max_tokens
  uint64_t last_sample_step = 0;
  int32_t priority = 0;
  bool operator==(const RunningSequence&) const = default;
};

/// One that waits for admission.
struct WaitingSequence {
  int64_t tokens = 0;  // known: the prompt, and what it had generated before it lost its blocks
  int64_t shared_blocks = 0;  // that hold its first tokens; never all of them
  int64_t unheld_blocks = 0;  // of the shared ones, those that are counted as free
  int32_t priority = 0;
  bool operator==(const WaitingSequence&) const = default;
};

struct ScheduleSnapshot {
  uint64_t step_id = 1;  // of the batch that is to be composed
  int outstanding_batches = 0;
  int pp_size = 1;
  int64_t max_batch_tokens = 0;  // rows of one batch
  int64_t max_sequences = 0;     // holding blocks at once
  int64_t free_blocks = 0;
  std::vector<RunningSequence> running;  // by priority, then oldest first
  std::vector<WaitingSequence> waiting;  // the same
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
  std::vector<ScheduledChunk> admitted;  // ascending index; behind the shared blocks
  bool empty() const { return preempted.empty() && running.empty() && admitted.empty(); }
  bool operator==(const ScheduleDecision&) const = default;
};

/// Tokens of one sequence that may be under way: the next decode queues behind the running one.
inline constexpr int kMaxSamplesUnderWay = 2;

/// At most this many batches may be outstanding, so that no stage waits for the coordinator.
constexpr int MaxOutstandingBatches(int pp_size) { return pp_size + 1; }

/// Most prefill rows of one batch. With stages, prefills that fill m budgets take about
/// (4 pp m + pp - 1) / (4 pp m) of the ideal time instead of (m + pp - 1) / m.
constexpr int64_t PrefillRowsPerBatch(int64_t max_batch_tokens, int pp_size) {
  if (pp_size == 1) return max_batch_tokens;
  constexpr int64_t kLeastRows = 64;  // fewer leave a matrix product's speed unused
  return std::min(max_batch_tokens, std::max(max_batch_tokens / (4 * pp_size), kLeastRows));
}

/// The next batch; empty if there is nothing to do or enough is outstanding already. Never hands
/// out more than free_blocks plus what it preempts, nor more than max_batch_tokens rows. The first
/// running sequence is never preempted in favour of another of its priority, so that each gets its
/// turn, provided that every sequence alone fits into the pool, which the engine checks.
ScheduleDecision Schedule(const ScheduleSnapshot& snapshot);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_ENGINE_SCHEDULER_H_
