// What Schedule() must keep for any snapshot, and that nobody starves when it is played over time.
#include <algorithm>
#include <deque>
#include <random>
#include <set>

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
    return sequence;
  }
  sequence.rows = sequence.prefill_rows + Draw(random, 0, 40);
  sequence.blocks = BlocksFor(sequence.rows);
  sequence.samples_under_way = static_cast<int>(Draw(random, 0, kMaxSamplesUnderWay));
  sequence.wants_sample = sequence.samples_under_way == 0 || Draw(random, 0, 15) > 0;
  sequence.last_sample_step =
      step_id - Draw(random, 1, sequence.samples_under_way > 0 ? pp_size + 1 : 5);
  return sequence;
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
  for (int64_t i = 0; i < waiting; ++i) snapshot.waiting.push_back({Draw(random, 1, 300)});
  return snapshot;
}

// Every rule that a decision must keep, whatever the snapshot.
void ExpectLegal(const ScheduleSnapshot& snapshot, const ScheduleDecision& decision) {
  int64_t rows = 0;
  int64_t blocks = snapshot.free_blocks;
  std::set<size_t> gone;
  for (size_t i : decision.preempted) {
    ASSERT_LT(i, snapshot.running.size());
    EXPECT_TRUE(gone.insert(i).second) << "preempted twice";
    EXPECT_TRUE(i != 0 || snapshot.running.size() == 1 ||
                decision.preempted.size() == snapshot.running.size())
        << "the oldest gave way to a younger one";
    blocks += snapshot.running[i].blocks;
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
    ASSERT_LT(i, snapshot.waiting.size());
    EXPECT_EQ(chunk.index, i) << "admission out of order";
    EXPECT_GE(chunk.rows, 1);
    EXPECT_LE(chunk.rows, snapshot.waiting[i].tokens);
    EXPECT_EQ(chunk.sample, chunk.rows == snapshot.waiting[i].tokens);
    EXPECT_EQ(chunk.new_blocks, BlocksFor(snapshot.waiting[i].tokens));
    rows += chunk.rows;
    blocks -= chunk.new_blocks;
  }
  EXPECT_LE(rows, snapshot.max_batch_tokens) << "over the budget";
  EXPECT_GE(blocks, 0) << "more blocks than there are";
  EXPECT_TRUE(decision.admitted.empty() ||
              static_cast<int64_t>(snapshot.running.size() + decision.admitted.size()) <=
                  snapshot.max_sequences);
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
    int64_t known = 0;
    int64_t end = 0;  // tokens at which it ends
    RunningSequence view;
  };
  struct Batch {
    std::vector<int> samples;
    std::vector<int> born;  // parallel: how often each had been admitted, to tell lives apart
  };

  void Arrive() {
    Life life{.number = next_number_++};
    const int64_t most = pool_blocks_ * kBlockTokens;
    life.known = Draw(random_, 1, most - 1);
    // The last token needs no block.
    life.end = std::min(most + 1, life.known + Draw(random_, 1, 40));
    work_ += life.end;
    admissions_.push_back(0);
    waiting_.push_back(life);
    --unborn_;
  }

  void MakeViews() {
    snapshot_.running.clear();
    for (const Life& life : running_) {
      RunningSequence view = life.view;
      view.wants_sample = life.known + view.samples_under_way < life.end;
      snapshot_.running.push_back(view);
    }
    snapshot_.waiting.clear();
    for (const Life& life : waiting_) snapshot_.waiting.push_back({life.known});
  }

  void CarryOut(const ScheduleDecision& decision) {
    Batch batch;
    std::set<size_t> gone(decision.preempted.begin(), decision.preempted.end());
    for (size_t i : decision.preempted) snapshot_.free_blocks += running_[i].view.blocks;
    for (const ScheduledChunk& chunk : decision.running) Apply(running_[chunk.index], chunk, batch);
    for (auto i = gone.rbegin(); i != gone.rend(); ++i) {
      waiting_.push_front(running_[*i]);
      running_.erase(running_.begin() + static_cast<int64_t>(*i));
    }
    for (const ScheduledChunk& chunk : decision.admitted) {
      running_.push_back(waiting_.front());
      waiting_.pop_front();
      Life& life = running_.back();
      ++admissions_[life.number];
      life.view = {.prefill_rows = life.known};
      Apply(life, chunk, batch);
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
  int next_number_ = 0;
  std::vector<int> admissions_;
  std::deque<Life> waiting_;
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
