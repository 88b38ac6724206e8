// The scheduling policy; see the header.
#include "coordinator/engine/scheduler.h"

#include <algorithm>
#include <utility>

#include "coordinator/engine/block_pool.h"

namespace lockstep::coordinator {
namespace {

bool Prefills(const RunningSequence& sequence) { return sequence.rows < sequence.prefill_rows; }

bool Decodes(const RunningSequence& sequence) {
  return !Prefills(sequence) && sequence.wants_sample;
}

// One call's working state: what is left of the batch and of the pool.
class Composer {
 public:
  explicit Composer(const ScheduleSnapshot& snapshot)
      : snapshot_(snapshot),
        rows_left_(snapshot.max_batch_tokens),
        free_blocks_(snapshot.free_blocks),
        is_preempted_(snapshot.running.size(), false) {
    for (const RunningSequence& sequence : snapshot.running) {
      if (Decodes(sequence)) ++decoding_;
      if (!sequence.wants_sample) somebody_ends_ = true;
    }
  }

  ScheduleDecision Compose() {
    AddDecodes(SelectDecodes(/*queued_behind_own_step=*/false));
    AddPrefills();
    if (decision_.preempted.empty()) AdmitWaiting();
    if (decision_.running.empty() && decision_.admitted.empty()) {
      AddDecodes(SelectDecodes(/*queued_behind_own_step=*/true));
    }
    return std::move(decision_);
  }

 private:
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

  // Preempts the youngest sequences, down to `needy` itself, until `blocks` are free. False if
  // `needy` gets nothing in this batch.
  bool MakeRoom(size_t needy, int64_t blocks) {
    // Its last token is under way and gives blocks back soon; throwing work away would be worse.
    if (somebody_ends_) return false;
    for (size_t victim = snapshot_.running.size(); victim-- > needy;) {
      if (is_preempted_[victim]) continue;
      is_preempted_[victim] = true;
      decision_.preempted.push_back(victim);
      free_blocks_ += snapshot_.running[victim].blocks;
      if (victim == needy) return false;
      if (free_blocks_ >= blocks) return true;
    }
    return false;
  }

  void AddPrefills() {
    for (size_t i = 0; i < snapshot_.running.size() && rows_left_ > 0; ++i) {
      const RunningSequence& sequence = snapshot_.running[i];
      if (!Prefills(sequence) || is_preempted_[i]) continue;
      decision_.running.push_back(PrefillChunk(i, sequence.prefill_rows - sequence.rows));
    }
  }

  ScheduledChunk PrefillChunk(size_t index, int64_t rows_wanted) {
    const int64_t rows = std::min(rows_wanted, rows_left_);
    rows_left_ -= rows;
    return {.index = index, .rows = rows, .new_blocks = 0, .sample = rows == rows_wanted};
  }

  void AdmitWaiting() {
    int64_t holders = static_cast<int64_t>(snapshot_.running.size());
    for (size_t i = 0; i < snapshot_.waiting.size(); ++i) {
      const int64_t blocks = BlocksFor(snapshot_.waiting[i].tokens);
      // A block for each that runs already: without it the newcomer would soon be preempted.
      const int64_t reserve = holders;
      if (holders >= snapshot_.max_sequences || rows_left_ <= 0) return;
      if (blocks + reserve > free_blocks_) return;
      free_blocks_ -= blocks;
      ++holders;
      ScheduledChunk chunk = PrefillChunk(i, snapshot_.waiting[i].tokens);
      chunk.new_blocks = blocks;
      decision_.admitted.push_back(chunk);
    }
  }

  const ScheduleSnapshot& snapshot_;
  int64_t rows_left_;
  int64_t free_blocks_;
  int64_t decoding_ = 0;
  bool somebody_ends_ = false;
  std::vector<bool> is_preempted_;
  ScheduleDecision decision_;
};

}  // namespace

ScheduleDecision Schedule(const ScheduleSnapshot& snapshot) {
  if (snapshot.outstanding_batches >= MaxOutstandingBatches(snapshot.pp_size)) return {};
  return Composer(snapshot).Compose();
}

}  // namespace lockstep::coordinator
