// Applying a batch: every check comes before the change that it guards, and every refusal names the
// step, so that the coordinator's operator can find the batch.
#include "worker/sequence_table.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "worker/hash.h"

namespace lockstep::worker {
namespace {

template <typename... Parts>
absl::Status Refuse(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

int64_t RowsOf(const v1::SequenceChunk& chunk) {
  return chunk.token_ids().empty() ? 1 : chunk.token_ids_size();
}

}  // namespace

SequenceTable::SequenceTable(const SequenceLimits& limits)
    : limits_(limits), block_taken_(limits.kv_blocks, false) {}

absl::StatusOr<Step> SequenceTable::Apply(const v1::StepBatch& batch) {
  if (batch.epoch() != limits_.epoch) {
    return Refuse("a batch of epoch ", batch.epoch(), " reached epoch ", limits_.epoch);
  }
  if (batch.step_id() != last_step_id_ + 1) {
    return Refuse("step ", batch.step_id(), " came after step ", last_step_id_);
  }
  last_step_id_ = batch.step_id();
  auto apply = [&]() -> absl::StatusOr<Step> {
    for (uint64_t id : batch.freed_sequence_ids()) LOCKSTEP_RETURN_IF_ERROR(Free(id));
    for (const auto& sequence : batch.new_sequences()) LOCKSTEP_RETURN_IF_ERROR(Add(sequence));
    Step step;
    step.step_id = batch.step_id();
    for (const auto& chunk : batch.chunks()) LOCKSTEP_RETURN_IF_ERROR(AddChunk(chunk, step));
    return step;
  };
  absl::StatusOr<Step> step = apply();
  if (step.ok()) return step;
  return Refuse("step ", batch.step_id(), ": ", step.status().message());
}

Sequence* SequenceTable::Find(uint64_t sequence_id) {
  auto found = sequences_.find(sequence_id);
  return found == sequences_.end() ? nullptr : found->second.get();
}

uint64_t SequenceTable::Digest() const {
  // A sum does not depend on the order in which the hash table lists the sequences.
  uint64_t digest = Combine(limits_.epoch, last_step_id_);
  for (const auto& [id, sequence] : sequences_) {
    digest += Combine(Combine(Mix64(id), sequence->length), sequence->block_hash);
  }
  return digest;
}

absl::Status SequenceTable::Free(uint64_t sequence_id) {
  auto found = sequences_.find(sequence_id);
  if (found == sequences_.end()) return Refuse("freed sequence ", sequence_id, " is not alive");
  for (int32_t block : found->second->block_table) block_taken_[block] = false;
  sequences_.erase(found);
  return absl::OkStatus();
}

absl::StatusOr<Sampling> SequenceTable::CheckedSampling(const v1::NewSequence& sequence) const {
  const v1::SamplingParams& params = sequence.sampling();
  uint64_t id = sequence.sequence_id();
  if (!params.has_temperature() || !params.has_top_k() || !params.has_top_p() ||
      !params.has_seed()) {
    return Refuse("sequence ", id,
                  " lacks a sampling parameter; the coordinator resolves temperature, top_k, top_p "
                  "and seed");
  }
  if (!(params.temperature() >= 0 && params.temperature() <= 100)) {
    return Refuse("sequence ", id, ": temperature ", params.temperature(), " is not in [0, 100]");
  }
  if (params.top_k() < 0 || params.top_k() > limits_.vocab_size) {
    return Refuse("sequence ", id, ": top_k ", params.top_k(), " is not in [0, ",
                  limits_.vocab_size, "]");
  }
  if (!(params.top_p() > 0 && params.top_p() <= 1)) {
    return Refuse("sequence ", id, ": top_p ", params.top_p(), " is not in (0, 1]");
  }
  return Sampling{params.temperature(), params.top_k(), params.top_p(), params.seed(),
                  sequence.choice()};
}

absl::Status SequenceTable::Add(const v1::NewSequence& sequence) {
  uint64_t id = sequence.sequence_id();
  if (static_cast<int64_t>(sequences_.size()) >= limits_.max_sequences) {
    return Refuse("new sequence ", id, " exceeds the ", limits_.max_sequences,
                  " that may be alive at once");
  }
  if (sequence.prompt_tokens() > limits_.context_tokens) {
    return Refuse("sequence ", id, ": a prompt of ", sequence.prompt_tokens(),
                  " tokens exceeds the context of ", limits_.context_tokens);
  }
  auto entry = std::make_unique<Sequence>();
  LOCKSTEP_ASSIGN_OR_RETURN(entry->sampling, CheckedSampling(sequence));
  entry->id = id;
  entry->prompt_tokens = sequence.prompt_tokens();
  entry->logprobs = sequence.logprobs();
  entry->prompt_logprobs = sequence.prompt_logprobs();
  if (!sequences_.try_emplace(id, std::move(entry)).second) {
    return Refuse("new sequence ", id, " is alive already");
  }
  return absl::OkStatus();
}

absl::Status SequenceTable::CheckChunk(const v1::SequenceChunk& chunk, const Sequence& sequence,
                                       const Step& step) const {
  int64_t rows = RowsOf(chunk);
  if (chunk.first_position() != sequence.length) {
    return Refuse("sequence ", sequence.id, ": a chunk at position ", chunk.first_position(),
                  " came after ", sequence.length, " tokens");
  }
  if (sequence.length + rows > limits_.context_tokens) {
    return Refuse("sequence ", sequence.id, " grows to ", sequence.length + rows,
                  " tokens, beyond the context of ", limits_.context_tokens);
  }
  if (step.rows() + rows > limits_.max_batch_tokens) {
    return Refuse("more than ", limits_.max_batch_tokens, " rows");
  }
  if (chunk.token_ids().empty() && sequence.sampled_step == 0) {
    return Refuse("sequence ", sequence.id,
                  ": the token sampled last is asked for, but the chunk before sampled none");
  }
  auto legal = [&](int32_t token) { return token >= 0 && token < limits_.vocab_size; };
  for (int32_t token : chunk.token_ids()) {
    if (!legal(token)) return Refuse("token ", token, " is not in the vocabulary");
  }
  if (chunk.has_next_token_id() && !legal(chunk.next_token_id())) {
    return Refuse("next token ", chunk.next_token_id(), " is not in the vocabulary");
  }
  if (sequence.last_chunk_step == last_step_id_) {
    return Refuse("sequence ", sequence.id, " has two chunks");
  }
  return absl::OkStatus();
}

absl::Status SequenceTable::TakeBlocks(const v1::SequenceChunk& chunk, Sequence& sequence) {
  for (int32_t block : chunk.new_block_ids()) {
    if (block < 0 || block >= limits_.kv_blocks) {
      return Refuse("sequence ", sequence.id, ": block ", block, " is not in [0, ",
                    limits_.kv_blocks, ")");
    }
    if (block_taken_[block]) {
      return Refuse("sequence ", sequence.id, ": block ", block, " is held already");
    }
    block_taken_[block] = true;
    sequence.block_table.push_back(block);
    sequence.block_hash = Combine(sequence.block_hash, block);
  }
  int64_t room = static_cast<int64_t>(sequence.block_table.size()) * kernels::kBlockTokens;
  int64_t needed = sequence.length + RowsOf(chunk);
  if (room < needed) {
    return Refuse("sequence ", sequence.id, ": ", sequence.block_table.size(), " blocks hold ",
                  room, " tokens, ", needed, " are needed");
  }
  return absl::OkStatus();
}

absl::Status SequenceTable::AddChunk(const v1::SequenceChunk& chunk, Step& step) {
  Sequence* sequence = Find(chunk.sequence_id());
  if (sequence == nullptr) {
    return Refuse("a chunk names sequence ", chunk.sequence_id(), ", which is not alive");
  }
  LOCKSTEP_RETURN_IF_ERROR(CheckChunk(chunk, *sequence, step));
  LOCKSTEP_RETURN_IF_ERROR(TakeBlocks(chunk, *sequence));
  int64_t first_row = step.rows();
  int64_t rows = RowsOf(chunk);
  if (chunk.token_ids().empty()) {
    step.pending.push_back({first_row, sequence, sequence->sampled_step});
    step.tokens.push_back(-1);
  } else {
    step.tokens.insert(step.tokens.end(), chunk.token_ids().begin(), chunk.token_ids().end());
  }
  for (int64_t i = 0; i < rows; ++i) {
    step.positions.push_back(static_cast<int32_t>(sequence->length + i));
  }
  step.sequences.push_back({first_row, rows, sequence->length, sequence->block_table});
  if (sequence->prompt_logprobs) AddScores(chunk, *sequence, first_row, step);
  sequence->length += rows;
  sequence->last_chunk_step = step.step_id;
  sequence->sampled_step = chunk.sample() ? step.step_id : 0;
  if (chunk.sample()) step.samples.push_back({first_row + rows - 1, sequence, sequence->length});
  return absl::OkStatus();
}

void SequenceTable::AddScores(const v1::SequenceChunk& chunk, const Sequence& sequence,
                              int64_t first_row, Step& step) {
  size_t first = step.scores.size();
  for (int i = 1; i < chunk.token_ids_size(); ++i) {
    if (sequence.length + i >= sequence.prompt_tokens) break;
    step.scores.push_back({first_row + i - 1, chunk.token_ids(i)});
  }
  int64_t end = sequence.length + RowsOf(chunk);
  if (chunk.has_next_token_id() && end < sequence.prompt_tokens) {
    step.scores.push_back({first_row + RowsOf(chunk) - 1, chunk.next_token_id()});
  }
  size_t count = step.scores.size() - first;
  if (count > 0) step.score_ranges.push_back({sequence.id, sequence.length + 1, first, count});
}

}  // namespace lockstep::worker
