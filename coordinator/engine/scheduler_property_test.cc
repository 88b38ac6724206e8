// What Schedule() must keep for any snapshot, and that nobody starves when it is played over time.
#include <algorithm>
#include <deque>
#include <optional>
#include <random>
#include <set>
#include <tuple>
#include <vector>

#include "coordinator/engine/block_pool.h"
#include "coordinator/engine/scheduler.h"
#include "gtest/gtest.h"

namespace lockstep::coordinator {
namespace {

int64_t Draw(std::mt19937_64& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

RunningSequence RandomRunning(std::mt19937_64& random, uint64_t step_id, int pp_size) {
  RunningSequence sequence;
  sequence.prefill_rows = Draw(random, 1, 200);
  if (Draw(random, 0, 2) == 0) {
    sequence.rows = Draw(random, 0, sequence.prefill_rows - 1);
    sequence.blocks = BlocksFor(sequence.prefill_rows);
    sequence.own_blocks = Draw(random, 0, sequence.blocks);
    return sequence;
  }
  sequence.rows = sequence.prefill_rows + Draw(random, 0, 40);
  sequence.blocks = BlocksFor(sequence.rows);
  sequence.own_blocks = Draw(random, 0, sequence.blocks);
  sequence.samples_under_way = static_cast<int>(Draw(random, 0, kMaxSamplesUnderWay));
  sequence.wants_sample = sequence.samples_under_way == 0 || Draw(random, 0, 15) > 0;
  sequence.last_sample_step =
      step_id - Draw(random, 1, sequence.samples_under_way > 0 ? pp_size + 1 : 5);
  return sequence;
}

WaitingSequence RandomWaiting(std::mt19937_64& random) {
  WaitingSequence sequence{.tokens = Draw(random, 1, 300)};
  if (Draw(random, 0, 1) == 0) {
    sequence.shared_blocks = Draw(random, 0, (sequence.tokens - 1) / kBlockTokens);
    sequence.unheld_blocks = Draw(random, 0, sequence.shared_blocks);
  }
  return sequence;
}

int32_t Draw32(std::mt19937_64& random, int32_t count) {
  return static_cast<int32_t>(Draw(random, 0, count - 1));
}

ScheduleSnapshot RandomSnapshot(std::mt19937_64& random) {
  ScheduleSnapshot snapshot;
  snapshot.step_id = Draw(random, 10, 1000);
  snapshot.pp_size = static_cast<int>(Draw(random, 1, 4));
  snapshot.outstanding_batches = static_cast<int>(Draw(random, 0, snapshot.pp_size + 1));
  snapshot.max_batch_tokens = Draw(random, 1, 256);
  snapshot.max_sequences = Draw(random, 1, 24);
  snapshot.free_blocks = Draw(random, 0, 1) == 0 ? 0 : Draw(random, 0, 40);
  const int64_t running = Draw(random, 0, snapshot.max_sequences);
  for (int64_t i = 0; i < running; ++i) {
    snapshot.running.push_back(RandomRunning(random, snapshot.step_id, snapshot.pp_size));
  }
  const int64_t waiting = Draw(random, 0, 10);
  for (int64_t i = 0; i < waiting; ++i) snapshot.waiting.push_back(RandomWaiting(random));
  // Both are in order of priority, mostly of one and the same.
  const int32_t priorities = Draw(random, 0, 3) == 0 ? 3 : 1;
  auto prioritise = [&](auto& sequences) {
    for (auto& sequence : sequences) sequence.priority = Draw32(random, priorities);
    std::stable_sort(sequences.begin(), sequences.end(),
                     [](const auto& a, const auto& b) { return a.priority < b.priority; });
  };
  prioritise(snapshot.running);
  prioritise(snapshot.waiting);
  return snapshot;
}

int64_t RowsOf(const std::vector<ScheduledChunk>& chunks, size_t index) {
  for (const ScheduledChunk& chunk : chunks) {
    if (chunk.index == index) return chunk.rows;
  }
  return 0;
}

// Of the rows that prefills get, the first running one gets half at least, if it has a use for
// them and nobody more urgent waits.
void ExpectFair(const ScheduleSnapshot& snapshot, const ScheduleDecision& decision) {
  const std::set<size_t> gone(decision.preempted.begin(), decision.preempted.end());
  int64_t prefill_rows = 0;
  for (const ScheduledChunk& chunk : decision.admitted) prefill_rows += chunk.rows;
  std::optional<size_t> first;
  for (size_t i = 0; i < snapshot.running.size(); ++i) {
    const RunningSequence& sequence = snapshot.running[i];
    if (sequence.rows >= sequence.prefill_rows || gone.contains(i)) continue;
    prefill_rows += RowsOf(decision.running, i);
    if (!first) first = i;
  }
  if (!first) return;
  const RunningSequence& sequence = snapshot.running[*first];
  if (!snapshot.waiting.empty() && snapshot.waiting[0].priority < sequence.priority) return;
  const int64_t wanted = sequence.prefill_rows - sequence.rows;
  EXPECT_GE(RowsOf(decision.running, *first), std::min(wanted, prefill_rows / 2));
}

// Every rule that a decision must keep, whatever the snapshot.
void ExpectLegal(const ScheduleSnapshot& snapshot, const ScheduleDecision& decision) {
  int64_t rows = 0;
  int64_t blocks = snapshot.free_blocks;
  std::set<size_t> gone;
  for (size_t i : decision.preempted) {
    ASSERT_LT(i, snapshot.running.size());
    EXPECT_TRUE(gone.insert(i).second) << "preempted twice";
    EXPECT_TRUE(i != 0 || decision.preempted.size() == snapshot.running.size())
        << "the first gave way to a later one";
    blocks += snapshot.running[i].own_blocks;
  }
  std::set<size_t> scheduled;
  for (const ScheduledChunk& chunk : decision.running) {
    ASSERT_LT(chunk.index, snapshot.running.size());
    const RunningSequence& sequence = snapshot.running[chunk.index];
    EXPECT_TRUE(scheduled.insert(chunk.index).second) << "two chunks of one sequence";
    EXPECT_FALSE(gone.contains(chunk.index)) << "a chunk of a preempted sequence";
    EXPECT_GE(chunk.rows, 1);
    EXPECT_GE(sequence.blocks + chunk.new_blocks, BlocksFor(sequence.rows + chunk.rows));
    if (sequence.rows < sequence.prefill_rows) {
      EXPECT_LE(sequence.rows + chunk.rows, sequence.prefill_rows);
      EXPECT_EQ(chunk.sample, sequence.rows + chunk.rows == sequence.prefill_rows);
    } else {
      EXPECT_EQ(chunk.rows, 1);
      EXPECT_TRUE(chunk.sample);
      EXPECT_TRUE(sequence.wants_sample);
      EXPECT_LT(sequence.samples_under_way, kMaxSamplesUnderWay);
    }
    rows += chunk.rows;
    blocks -= chunk.new_blocks;
  }
  for (size_t i = 0; i < decision.admitted.size(); ++i) {
    const ScheduledChunk& chunk = decision.admitted[i];
    ASSERT_LT(chunk.index, snapshot.waiting.size());
    EXPECT_TRUE(i == 0 || decision.admitted[i - 1].index < chunk.index) << "twice or out of order";
    const WaitingSequence& sequence = snapshot.waiting[chunk.index];
    const int64_t rows_left = sequence.tokens - sequence.shared_blocks * kBlockTokens;
    EXPECT_GE(chunk.rows, 1);
    EXPECT_LE(chunk.rows, rows_left);
    EXPECT_EQ(chunk.sample, chunk.rows == rows_left);
    EXPECT_EQ(chunk.new_blocks, BlocksFor(sequence.tokens) - sequence.shared_blocks);
    rows += chunk.rows;
    blocks -= chunk.new_blocks + sequence.unheld_blocks;
  }
  EXPECT_LE(rows, snapshot.max_batch_tokens) << "over the budget";
  EXPECT_GE(blocks, 0) << "more blocks than there are";
  EXPECT_TRUE(decision.admitted.empty() ||
              static_cast<int64_t>(snapshot.running.size() + decision.admitted.size() -
                                   decision.preempted.size()) <= snapshot.max_sequences);
  ExpectFair(snapshot, decision);
  if (snapshot.outstanding_batches >= MaxOutstandingBatches(snapshot.pp_size)) {
    EXPECT_TRUE(decision.empty());
  }
}

TEST(SchedulerPropertyTest, EveryDecisionKeepsTheRules) {
  std::mt19937_64 random(20261123);
  int64_t preempting = 0;
  int64_t admitting = 0;
  for (int round = 0; round < 50000; ++round) {
    const ScheduleSnapshot snapshot = RandomSnapshot(random);
    const ScheduleDecision decision = Schedule(snapshot);
    ExpectLegal(snapshot, decision);
    ASSERT_FALSE(testing::Test::HasFailure()) << "round " << round;
    ASSERT_EQ(decision, Schedule(snapshot)) << "not a function of the snapshot";
    preempting += !decision.preempted.empty();
    admitting += !decision.admitted.empty();
  }
  // Else the snapshots would not reach what is to be shown.
  EXPECT_GT(preempting, 1000);
  EXPECT_GT(admitting, 1000);
}

// Plays whole lives: sequences arrive, are scheduled, and end at their length.
class Simulation {
 public:
  explicit Simulation(uint64_t seed) : random_(seed) {
    snapshot_.pp_size = static_cast<int>(Draw(random_, 1, 4));
    snapshot_.max_batch_tokens = Draw(random_, 4, 96);
    snapshot_.max_sequences = Draw(random_, 1, 12);
    pool_blocks_ = Draw(random_, 4, 24);
    snapshot_.free_blocks = pool_blocks_;
    unborn_ = Draw(random_, 1, 60);
    priorities_ = Draw32(random_, 3) + 1;
  }

  // One batch composed and perhaps one answered. False when all have ended.
  bool Advance() {
    if (unborn_ > 0 && Draw(random_, 0, 2) == 0) Arrive();
    snapshot_.outstanding_batches = static_cast<int>(outstanding_.size());
    MakeViews();
    const ScheduleDecision decision = Schedule(snapshot_);
    ExpectLegal(snapshot_, decision);
    CarryOut(decision);
    const bool work_left = !running_.empty() || !waiting_.empty();
    EXPECT_FALSE(work_left && outstanding_.empty()) << "idle, and nothing will ever change";
    const bool full = outstanding_.size() > static_cast<size_t>(snapshot_.pp_size);
    if (!outstanding_.empty() && (full || decision.empty() || Draw(random_, 0, 1) == 0)) Answer();
    return unborn_ > 0 || !running_.empty() || !waiting_.empty();
  }

  int64_t pool_blocks() const { return pool_blocks_; }
  int64_t free_blocks() const { return snapshot_.free_blocks; }
  int64_t work() const { return work_; }

 private:
  struct Life {
    int number = 0;  // in the order of arrival
    int32_t priority = 0;
    int64_t known = 0;
    int64_t end = 0;  // tokens at which it ends
    RunningSequence view;
  };
  struct Batch {
    std::vector<int> samples;
    std::vector<int> born;  // parallel: how often each had been admitted, to tell lives apart
  };

  void Arrive() {
    Life life{.number = next_number_++, .priority = Draw32(random_, priorities_)};
    const int64_t most = pool_blocks_ * kBlockTokens;
    life.known = Draw(random_, 1, most - 1);
    // The last token needs no block.
    life.end = std::min(most + 1, life.known + Draw(random_, 1, 40));
    work_ += life.end;
    admissions_.push_back(0);
    const auto place =
        std::upper_bound(waiting_.begin(), waiting_.end(), life,
                         [](const Life& a, const Life& b) { return a.priority < b.priority; });
    waiting_.insert(place, life);
    --unborn_;
  }

  void MakeViews() {
    snapshot_.running.clear();
    for (const Life& life : running_) {
      RunningSequence view = life.view;
      view.wants_sample = life.known + view.samples_under_way < life.end;
      view.own_blocks = view.blocks;
      snapshot_.running.push_back(view);
    }
    snapshot_.waiting.clear();
    for (const Life& life : waiting_) {
      snapshot_.waiting.push_back({.tokens = life.known, .priority = life.priority});
    }
  }

  void CarryOut(const ScheduleDecision& decision) {
    Batch batch;
    std::set<size_t> gone(decision.preempted.begin(), decision.preempted.end());
    for (size_t i : decision.preempted) snapshot_.free_blocks += running_[i].view.blocks;
    for (const ScheduledChunk& chunk : decision.running) Apply(running_[chunk.index], chunk, batch);
    std::vector<Life> preempted;
    for (auto i = gone.rbegin(); i != gone.rend(); ++i) {
      preempted.push_back(running_[*i]);
      running_.erase(running_.begin() + static_cast<int64_t>(*i));
    }
    for (auto chunk = decision.admitted.rbegin(); chunk != decision.admitted.rend(); ++chunk) {
      Life life = waiting_[chunk->index];
      waiting_.erase(waiting_.begin() + static_cast<int64_t>(chunk->index));
      ++admissions_[life.number];
      life.view = {.prefill_rows = life.known, .priority = life.priority};
      Apply(life, *chunk, batch);
      running_.push_back(life);
    }
    waiting_.insert(waiting_.end(), preempted.begin(), preempted.end());
    for (auto* lives : {&running_, &waiting_}) {
      std::sort(lives->begin(), lives->end(), [](const Life& a, const Life& b) {
        return std::tie(a.priority, a.number) < std::tie(b.priority, b.number);
      });
    }
    if (decision.running.empty() && decision.admitted.empty()) return;
    outstanding_.push_back(batch);
    ++snapshot_.step_id;
  }

  void Apply(Life& life, const ScheduledChunk& chunk, Batch& batch) {
    snapshot_.free_blocks -= chunk.new_blocks;
    life.view.blocks += chunk.new_blocks;
    life.view.rows += chunk.rows;
    if (!chunk.sample) return;
    ++life.view.samples_under_way;
    life.view.last_sample_step = snapshot_.step_id;
    batch.samples.push_back(life.number);
    batch.born.push_back(admissions_[life.number]);
  }

  void Answer() {
    const Batch batch = outstanding_.front();
    outstanding_.pop_front();
    for (size_t i = 0; i < batch.samples.size(); ++i) {
      auto life = std::find_if(running_.begin(), running_.end(), [&](const Life& candidate) {
        return candidate.number == batch.samples[i];
      });
      if (life == running_.end() || admissions_[life->number] != batch.born[i]) continue;
      --life->view.samples_under_way;
      // Some end early, as at an end token, with a decode still under way.
      if (++life->known >= life->end || Draw(random_, 0, 50) == 0) {
        snapshot_.free_blocks += life->view.blocks;
        running_.erase(life);
      }
    }
  }

  std::mt19937_64 random_;
  ScheduleSnapshot snapshot_;
  int64_t pool_blocks_ = 0;
  int64_t unborn_ = 0;
  int64_t work_ = 0;
  int32_t priorities_ = 1;
  int next_number_ = 0;
  std::vector<int> admissions_;
  std::vector<Life> waiting_;
  std::vector<Life> running_;
  std::deque<Batch> outstanding_;
};

TEST(SchedulerPropertyTest, EverySequenceEndsAndEveryBlockComesBack) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    Simulation simulation(seed);
    int64_t rounds = 0;
    while (simulation.Advance()) {
      // Preemption repeats work; a sequence that starved would go on for ever.
      ASSERT_LT(++rounds, 1000 + 20 * simulation.work()) << "somebody starves, seed " << seed;
      ASSERT_FALSE(testing::Test::HasFailure()) << "seed " << seed << ", round " << rounds;
    }
    EXPECT_EQ(simulation.free_blocks(), simulation.pool_blocks()) << "seed " << seed;
  }
}

}  // namespace
}  // namespace lockstep::coordinator
