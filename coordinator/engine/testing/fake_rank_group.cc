// The fake's queue and its execution of a batch, in the order that cluster.proto gives.
#include "coordinator/engine/testing/fake_rank_group.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/engine/block_pool.h"
#include "coordinator/engine/scheduler.h"

namespace lockstep::coordinator {

FakeRankGroup::FakeRankGroup(const GroupLimits& limits, FakeModel model, GroupObserver& observer)
    : limits_(limits),
      model_(model),
      observer_(observer),
      block_holders_(limits.kv_blocks),
      cache_(limits.kv_blocks * kBlockTokens, -1) {}

FakeRankGroup::~FakeRankGroup() {
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

void FakeRankGroup::Submit(const v1::StepBatch& batch) {
  absl::MutexLock lock(&mutex_);
  if (lost_) return;
  Require(batch.epoch() == limits_.epoch, "a batch of another epoch");
  Require(batch.step_id() == last_submitted_ + 1, "a gap in the step ids");
  last_submitted_ = batch.step_id();
  queue_.push_back(batch);
  most_outstanding_ = std::max(most_outstanding_, static_cast<int>(queue_.size()));
  Require(static_cast<int>(queue_.size()) <= MaxOutstandingBatches(limits_.pp_size),
          "more than pp_size + 1 batches outstanding");
}

bool FakeRankGroup::Step() {
  absl::MutexLock step_lock(&step_mutex_);
  v1::StepResult result;
  {
    absl::MutexLock lock(&mutex_);
    if (lost_ || queue_.empty()) return false;
    result = Execute(queue_.front());
    queue_.pop_front();
    ++steps_;
  }
  observer_.OnStepDone(result);
  return true;
}

void FakeRankGroup::RunUntilIdle() {
  while (Step()) {
  }
}

void FakeRankGroup::RunInBackground() {
  thread_ = std::thread([this] {
    while (true) {
      {
        absl::MutexLock lock(&mutex_);
        auto something = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
          return stop_ || lost_ || !queue_.empty();
        };
        mutex_.Await(absl::Condition(&something));
        if (stop_ || lost_) return;
      }
      Step();
    }
  });
}

void FakeRankGroup::Lose() {
  absl::MutexLock step_lock(&step_mutex_);
  {
    absl::MutexLock lock(&mutex_);
    lost_ = true;
    queue_.clear();
  }
  observer_.OnGroupLost(limits_.epoch, absl::UnavailableError("the fake group was lost"));
}

void FakeRankGroup::ForgetToken(uint64_t sequence_id) {
  absl::MutexLock lock(&mutex_);
  forgotten_.insert(sequence_id);
}

int FakeRankGroup::outstanding() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int>(queue_.size());
}

std::vector<v1::StepBatch> FakeRankGroup::outstanding_batches() const {
  absl::MutexLock lock(&mutex_);
  return {queue_.begin(), queue_.end()};
}

int FakeRankGroup::most_outstanding() const {
  absl::MutexLock lock(&mutex_);
  return most_outstanding_;
}

int64_t FakeRankGroup::steps() const {
  absl::MutexLock lock(&mutex_);
  return steps_;
}

std::vector<std::string> FakeRankGroup::violations() const {
  absl::MutexLock lock(&mutex_);
  return violations_;
}

v1::StepResult FakeRankGroup::Execute(const v1::StepBatch& batch) {
  v1::StepResult result;
  result.set_epoch(batch.epoch());
  result.set_step_id(batch.step_id());
  Free(batch);
  Create(batch);
  int64_t rows = 0;
  std::set<uint64_t> seen;
  for (const v1::SequenceChunk& chunk : batch.chunks()) {
    rows += std::max(1, chunk.token_ids_size());
    Require(seen.insert(chunk.sequence_id()).second, "two chunks of a sequence in a batch");
    RunChunk(chunk, result);
  }
  Require(rows >= 1, "a batch without rows");
  Require(rows <= limits_.max_batch_tokens, "more rows than max_batch_tokens");
  return result;
}

void FakeRankGroup::Free(const v1::StepBatch& batch) {
  for (uint64_t id : batch.freed_sequence_ids()) {
    auto found = sequences_.find(id);
    Require(found != sequences_.end(), absl::StrCat("freed sequence ", id, " does not live"));
    if (found == sequences_.end()) continue;
    for (int32_t block : found->second.block_table) --block_holders_[block];
    sequences_.erase(found);
  }
}

void FakeRankGroup::Create(const v1::StepBatch& batch) {
  for (const v1::NewSequence& start : batch.new_sequences()) {
    Require(start.sequence_id() > highest_sequence_, "a sequence id was used again");
    highest_sequence_ = std::max(highest_sequence_, start.sequence_id());
    const v1::SamplingParams& sampling = start.sampling();
    Require(sampling.has_seed() && sampling.has_temperature() && sampling.has_top_k() &&
                sampling.has_top_p(),
            "sampling parameters are not resolved");
    Sequence& sequence = sequences_[start.sequence_id()];
    sequence.start = start;
    ShareBlocks(start, sequence);
  }
  Require(static_cast<int64_t>(sequences_.size()) <= limits_.max_sequences,
          "more sequences alive than max_sequences");
}

void FakeRankGroup::ShareBlocks(const v1::NewSequence& start, Sequence& sequence) {
  for (int32_t block : start.shared_block_ids()) {
    const bool exists = block >= 0 && block < limits_.kv_blocks;
    Require(exists, absl::StrCat("there is no block ", block));
    if (!exists) continue;
    ++block_holders_[block];
    sequence.block_table.push_back(block);
    sequence.rows += kBlockTokens;
  }
  Require(start.shared_block_ids().empty() || !start.prompt_logprobs(),
          "a sequence that reports on its prompt shares blocks");
  const std::vector<int32_t> tokens = ReadRows(sequence);
  Require(start.shared_token_ids().empty() ||
              std::equal(tokens.begin(), tokens.end(), start.shared_token_ids().begin(),
                         start.shared_token_ids().end()),
          "shared_token_ids are not the tokens of the shared blocks");
}

void FakeRankGroup::RunChunk(const v1::SequenceChunk& chunk, v1::StepResult& result) {
  auto found = sequences_.find(chunk.sequence_id());
  Require(found != sequences_.end(), "a chunk of a sequence that does not live");
  if (found == sequences_.end()) return;
  Sequence& sequence = found->second;
  Require(chunk.first_position() == sequence.rows, "a chunk does not follow the rows so far");
  AddBlocks(chunk, sequence);
  WriteRows(chunk, sequence);
  ReportPrompt(chunk, sequence, result);
  if (chunk.sample()) Sample(sequence, result);
}

void FakeRankGroup::AddBlocks(const v1::SequenceChunk& chunk, Sequence& sequence) {
  for (int32_t block : chunk.new_block_ids()) {
    const bool exists = block >= 0 && block < limits_.kv_blocks;
    Require(exists, absl::StrCat("there is no block ", block));
    if (!exists) continue;
    Require(block_holders_[block] == 0, absl::StrCat("new block ", block, " is held already"));
    ++block_holders_[block];
    sequence.block_table.push_back(block);
  }
}

void FakeRankGroup::WriteRows(const v1::SequenceChunk& chunk, Sequence& sequence) {
  std::vector<int32_t> tokens(chunk.token_ids().begin(), chunk.token_ids().end());
  if (tokens.empty()) {
    Require(sequence.last_sampled.has_value(), "no token was sampled to go on from");
    tokens.push_back(sequence.last_sampled.value_or(0));
    sequence.last_sampled.reset();
  }
  for (int32_t token : tokens) {
    const size_t index = sequence.rows / kBlockTokens;
    Require(index < sequence.block_table.size(), "a row without a block");
    if (index >= sequence.block_table.size()) return;
    Require(block_holders_[sequence.block_table[index]] == 1, "a shared block is written");
    cache_[sequence.block_table[index] * kBlockTokens + sequence.rows % kBlockTokens] = token;
    ++sequence.rows;
  }
  Require(sequence.rows <= limits_.context_tokens, "a sequence longer than the context");
}

std::vector<int32_t> FakeRankGroup::ReadRows(const Sequence& sequence) const {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < sequence.rows; ++i) {
    tokens.push_back(
        cache_[sequence.block_table[i / kBlockTokens] * kBlockTokens + i % kBlockTokens]);
  }
  return tokens;
}

void FakeRankGroup::ReportPrompt(const v1::SequenceChunk& chunk, const Sequence& sequence,
                                 v1::StepResult& result) {
  if (!sequence.start.prompt_logprobs()) return;
  std::vector<int32_t> tokens = ReadRows(sequence);
  if (chunk.has_next_token_id()) tokens.push_back(chunk.next_token_id());
  const size_t end = std::min<size_t>(tokens.size(), sequence.start.prompt_tokens());
  v1::PromptLogprobs message;
  message.set_sequence_id(chunk.sequence_id());
  message.set_first_position(chunk.first_position() + 1);
  for (size_t i = chunk.first_position() + 1; i < end; ++i) {
    message.add_logprobs(model_.LogProb(std::span(tokens).first(i), tokens[i]));
    if (sequence.start.prompt_top_logprobs() > 0)
      message.add_top_logprobs()->add_token_ids(tokens[i]);
  }
  if (message.logprobs_size() > 0) *result.add_prompt_logprobs() = message;
}

void FakeRankGroup::Sample(Sequence& sequence, v1::StepResult& result) {
  Require(!sequence.last_sampled, "a sampled token was never used");
  const std::vector<int32_t> tokens = ReadRows(sequence);
  const uint64_t seed = FakeModel::ChoiceSeed(sequence.start.sampling().seed(),
                                              static_cast<int>(sequence.start.choice()));
  const int32_t token = model_.NextToken(tokens, seed);
  sequence.last_sampled = token;
  if (forgotten_.erase(sequence.start.sequence_id()) > 0) return;
  v1::SampledToken* sampled = result.add_sampled();
  sampled->set_sequence_id(sequence.start.sequence_id());
  sampled->set_token_id(token);
  if (sequence.start.logprobs()) sampled->set_logprob(model_.LogProb(tokens, token));
  for (int32_t i = 0; i < static_cast<int32_t>(sequence.start.top_logprobs()); ++i) {
    sampled->mutable_top_logprobs()->add_token_ids(i);
    sampled->mutable_top_logprobs()->add_logprobs(model_.LogProb(tokens, i));
  }
}

void FakeRankGroup::Require(bool rule, const std::string& breach) {
  if (!rule) violations_.push_back(breach);
}

}  // namespace lockstep::coordinator
