// The scheduling policy; see the header.
#include "coordinator/engine/scheduler.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "coordinator/engine/block_pool.h"

namespace lockstep::coordinator {
namespace {

bool Prefills(const RunningSequence& sequence) { return sequence.rows < sequence.prefill_rows; }

bool Decodes(const RunningSequence& sequence) {
  return !Prefills(sequence) && sequence.wants_sample;
}

/// Blocks that admission takes from the pool for the rows to come.
int64_t NewBlocks(const WaitingSequence& sequence) {
  return BlocksFor(sequence.tokens) - sequence.shared_blocks;
}

// One that has prompt rows to compute: running[index], or waiting[index].
struct Prefill {
  bool is_running = false;
  size_t index = 0;
  int64_t rows_left = 0;
  int64_t rows_now = 0;  // in this batch
  int32_t priority = 0;
};

// Divides `rows` over the prefills, which are in order: half of them at most to those that they
// suffice to end, the shortest first, and the rest in order.
void DivideRows(int64_t rows, std::vector<Prefill>& prefills) {
  std::vector<Prefill*> shortest_first;
  for (size_t i = 1; i < prefills.size(); ++i) shortest_first.push_back(&prefills[i]);
  std::stable_sort(shortest_first.begin(), shortest_first.end(),
                   [](const Prefill* a, const Prefill* b) { return a->rows_left < b->rows_left; });
  int64_t rows_for_short = rows / 2;
  for (Prefill* prefill : shortest_first) {
    if (prefill->rows_left > rows_for_short) break;
    prefill->rows_now = prefill->rows_left;
    rows_for_short -= prefill->rows_now;
    rows -= prefill->rows_now;
  }
  for (Prefill& prefill : prefills) {
    const int64_t more = std::min(rows, prefill.rows_left - prefill.rows_now);
    prefill.rows_now += more;
    rows -= more;
  }
}

// One call's working state: what is left of the batch and of the pool.
class Composer {
 public:
  explicit Composer(const ScheduleSnapshot& snapshot)
      : snapshot_(snapshot),
        rows_left_(snapshot.max_batch_tokens),
        free_blocks_(snapshot.free_blocks),
        holders_(static_cast<int64_t>(snapshot.running.size())),
        is_preempted_(snapshot.running.size(), false) {
    for (const RunningSequence& sequence : snapshot.running) {
      if (Decodes(sequence)) ++decoding_;
      if (!sequence.wants_sample) somebody_ends_ = true;
    }
  }

  ScheduleDecision Compose() {
    MakePlaceForUrgent();
    AddDecodes(SelectDecodes(/*queued_behind_own_step=*/false));
    AddPrefills();
    if (decision_.running.empty() && decision_.admitted.empty()) {
      AddDecodes(SelectDecodes(/*queued_behind_own_step=*/true));
    }
    return std::move(decision_);
  }

 private:
  // Whether there is a place for the sequence, with a block for each that runs already: without it
  // the newcomer would soon be preempted.
  bool HasPlace(const WaitingSequence& sequence, int64_t free_blocks, int64_t holders) const {
    return holders < snapshot_.max_sequences &&
           NewBlocks(sequence) + sequence.unheld_blocks + holders <= free_blocks;
  }

  void Preempt(size_t victim) {
    is_preempted_[victim] = true;
    decision_.preempted.push_back(victim);
    free_blocks_ += snapshot_.running[victim].own_blocks;
    --holders_;
  }

  // Preempts the last of those that are less urgent than the first one waiting, if that makes a
  // place for it.
  void MakePlaceForUrgent() {
    if (snapshot_.waiting.empty() || somebody_ends_) return;
    const WaitingSequence& urgent = snapshot_.waiting.front();
    size_t kept = snapshot_.running.size();
    int64_t free_blocks = free_blocks_;
    int64_t holders = holders_;
    while (!HasPlace(urgent, free_blocks, holders)) {
      if (kept == 0 || snapshot_.running[kept - 1].priority <= urgent.priority) return;
      free_blocks += snapshot_.running[--kept].own_blocks;
      --holders;
    }
    for (size_t victim = snapshot_.running.size(); victim-- > kept;) Preempt(victim);
  }

  // Whether the sequence's next row would wait for a token of a batch that no stage boundary
  // separates from this one.
  bool WouldHoldUpFirstStage(const RunningSequence& sequence) const {
    return sequence.samples_under_way > 0 &&
           snapshot_.step_id - sequence.last_sample_step < static_cast<uint64_t>(snapshot_.pp_size);
  }

  // This batch's share of the decodes, ascending: those first whose last sample is longest ago.
  std::vector<size_t> SelectDecodes(bool queued_behind_own_step) const {
    std::vector<size_t> chosen;
    for (size_t i = 0; i < snapshot_.running.size(); ++i) {
      const RunningSequence& sequence = snapshot_.running[i];
      if (!Decodes(sequence) || is_preempted_[i]) continue;
      if (sequence.samples_under_way >= kMaxSamplesUnderWay) continue;
      if (WouldHoldUpFirstStage(sequence) == queued_behind_own_step) chosen.push_back(i);
    }
    const int64_t share = (decoding_ + snapshot_.pp_size - 1) / snapshot_.pp_size;
    const int64_t limit = std::min(share, rows_left_);
    if (static_cast<int64_t>(chosen.size()) > limit) {
      std::stable_sort(chosen.begin(), chosen.end(), [this](size_t a, size_t b) {
        return snapshot_.running[a].last_sample_step < snapshot_.running[b].last_sample_step;
      });
      chosen.resize(limit);
      std::sort(chosen.begin(), chosen.end());
    }
    return chosen;
  }

  void AddDecodes(const std::vector<size_t>& chosen) {
    for (size_t i : chosen) {
      if (is_preempted_[i]) continue;
      const RunningSequence& sequence = snapshot_.running[i];
      const int64_t new_blocks = BlocksFor(sequence.rows + 1) - sequence.blocks;
      if (new_blocks > free_blocks_ && !MakeRoom(i, new_blocks)) continue;
      free_blocks_ -= new_blocks;
      --rows_left_;
      decision_.running.push_back(
          {.index = i, .rows = 1, .new_blocks = new_blocks, .sample = true});
    }
  }

  // Preempts the last sequences, down to `needy` itself, until `blocks` are free. False if `needy`
  // gets nothing in this batch.
  bool MakeRoom(size_t needy, int64_t blocks) {
    // Its last token is under way and gives blocks back soon; throwing work away would be worse.
    if (somebody_ends_) return false;
    short_of_blocks_ = true;
    for (size_t victim = snapshot_.running.size(); victim-- > needy;) {
      if (is_preempted_[victim]) continue;
      Preempt(victim);
      if (victim == needy) return false;
      if (free_blocks_ >= blocks) return true;
    }
    return false;
  }

  // Running prefills and those that wait and find a place, in order of priority; among equals those
  // that run are the older ones.
  std::vector<Prefill> CollectPrefills() {
    std::vector<Prefill> prefills;
    for (size_t i = 0; i < snapshot_.running.size(); ++i) {
      const RunningSequence& sequence = snapshot_.running[i];
      if (!Prefills(sequence) || is_preempted_[i]) continue;
      prefills.push_back({.is_running = true,
                          .index = i,
                          .rows_left = sequence.prefill_rows - sequence.rows,
                          .priority = sequence.priority});
    }
    for (size_t i = 0; i < snapshot_.waiting.size() && !short_of_blocks_; ++i) {
      const WaitingSequence& sequence = snapshot_.waiting[i];
      // Nobody takes the place of one who came before.
      if (!HasPlace(sequence, free_blocks_, holders_)) break;
      free_blocks_ -= NewBlocks(sequence) + sequence.unheld_blocks;
      ++holders_;
      prefills.push_back({.index = i,
                          .rows_left = sequence.tokens - sequence.shared_blocks * kBlockTokens,
                          .priority = sequence.priority});
    }
    std::stable_sort(prefills.begin(), prefills.end(),
                     [](const Prefill& a, const Prefill& b) { return a.priority < b.priority; });
    return prefills;
  }

  void AddPrefills() {
    const int64_t rows =
        std::min(rows_left_, PrefillRowsPerBatch(snapshot_.max_batch_tokens, snapshot_.pp_size));
    if (rows <= 0) return;
    std::vector<Prefill> prefills = CollectPrefills();
    DivideRows(rows, prefills);
    for (const Prefill& prefill : prefills) {
      if (prefill.rows_now == 0) continue;
      ScheduledChunk chunk = {.index = prefill.index,
                              .rows = prefill.rows_now,
                              .sample = prefill.rows_now == prefill.rows_left};
      if (prefill.is_running) {
        decision_.running.push_back(chunk);
      } else {
        chunk.new_blocks = NewBlocks(snapshot_.waiting[prefill.index]);
        decision_.admitted.push_back(chunk);
      }
    }
  }

  const ScheduleSnapshot& snapshot_;
  int64_t rows_left_;
  int64_t free_blocks_;
  int64_t holders_;
  int64_t decoding_ = 0;
  bool somebody_ends_ = false;
  bool short_of_blocks_ = false;
  std::vector<bool> is_preempted_;
  ScheduleDecision decision_;
};

}  // namespace

ScheduleDecision Schedule(const ScheduleSnapshot& snapshot) {
  if (snapshot.outstanding_batches >= MaxOutstandingBatches(snapshot.pp_size)) return {};
  return Composer(snapshot).Compose();
}

}  // namespace lockstep::coordinator
