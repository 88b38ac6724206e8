// Applying a batch: every check comes before the change that it guards, and every refusal names the
// step, so that the coordinator's operator can find the batch.
#include "worker/sequence_table.h"

#include <algorithm>
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

std::span<const int32_t> SpanOf(const google::protobuf::RepeatedField<int32_t>& values) {
  return {values.data(), static_cast<size_t>(values.size())};
}

// Counts the tokens at positions first_position, ... that are not counted yet: a token is named
// when it is sampled, and perhaps again when it is computed.
void CountTokens(std::span<const int32_t> tokens, int64_t first_position, Sequence& sequence) {
  if (!sequence.counts) return;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const int64_t position = first_position + static_cast<int64_t>(i);
    if (position < sequence.counted_tokens) continue;
    TokenUse& use = (*sequence.counts)[tokens[i]];
    if (position < sequence.prompt_tokens) {
      use.in_prompt = true;
    } else {
      ++use.in_output;
    }
    sequence.counted_tokens = position + 1;
  }
}

}  // namespace

SequenceTable::SequenceTable(const SequenceLimits& limits)
    : limits_(limits), blocks_(limits.kv_blocks) {}

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
  for (int32_t block : found->second->block_table) --blocks_[block].holders;
  sequences_.erase(found);
  return absl::OkStatus();
}

absl::Status SequenceTable::CheckToken(int32_t token) const {
  if (token >= 0 && token < limits_.vocab_size) return absl::OkStatus();
  return Refuse("token ", token, " is not in the vocabulary");
}

absl::Status SequenceTable::Add(const v1::NewSequence& message) {
  uint64_t id = message.sequence_id();
  if (static_cast<int64_t>(sequences_.size()) >= limits_.max_sequences) {
    return Refuse("new sequence ", id, " exceeds the ", limits_.max_sequences,
                  " that may be alive at once");
  }
  if (message.prompt_tokens() > limits_.context_tokens) {
    return Refuse("sequence ", id, ": a prompt of ", message.prompt_tokens(),
                  " tokens exceeds the context of ", limits_.context_tokens);
  }
  if (std::max(message.top_logprobs(), message.prompt_top_logprobs()) > kMaxAlternatives) {
    return Refuse("sequence ", id, ": more than ", kMaxAlternatives, " alternatives");
  }
  absl::StatusOr<Sampling> sampling = CheckSampling(message, limits_.vocab_size);
  if (!sampling.ok()) return Refuse("sequence ", id, ": ", sampling.status().message());
  auto entry = std::make_unique<Sequence>();
  entry->sampling = *std::move(sampling);
  entry->id = id;
  entry->prompt_tokens = message.prompt_tokens();
  entry->logprobs = message.logprobs() || message.top_logprobs() > 0;
  entry->prompt_logprobs = message.prompt_logprobs() || message.prompt_top_logprobs() > 0;
  entry->top_logprobs = static_cast<int>(message.top_logprobs());
  entry->prompt_top_logprobs = static_cast<int>(message.prompt_top_logprobs());
  if (entry->sampling.penalizes()) entry->counts.emplace();
  LOCKSTEP_RETURN_IF_ERROR(TakeSharedBlocks(message, *entry));
  if (!sequences_.try_emplace(id, std::move(entry)).second) {
    return Refuse("new sequence ", id, " is alive already");
  }
  return absl::OkStatus();
}

absl::Status SequenceTable::TakeSharedBlocks(const v1::NewSequence& message, Sequence& sequence) {
  const int64_t tokens =
      static_cast<int64_t>(message.shared_block_ids_size()) * kernels::kBlockTokens;
  if (tokens > limits_.context_tokens) {
    return Refuse("sequence ", sequence.id, " shares ", tokens, " tokens, beyond the context of ",
                  limits_.context_tokens);
  }
  for (int32_t block : message.shared_block_ids()) {
    LOCKSTEP_RETURN_IF_ERROR(CheckBlock(block, sequence));
    if (!blocks_[block].full) {
      return Refuse("sequence ", sequence.id, ": shared block ", block, " is not full");
    }
    Hold(block, sequence);
  }
  const Sampling& sampling = sequence.sampling;
  const bool counts_them = sampling.repetition_penalty != 1 ||
                           (sampling.penalizes_output() && tokens > sequence.prompt_tokens);
  const int64_t named = message.shared_token_ids_size();
  if (named != tokens && (named != 0 || counts_them)) {
    return Refuse("sequence ", sequence.id, ": ", named, " tokens are named of the ", tokens,
                  " in its shared blocks");
  }
  for (int32_t token : message.shared_token_ids()) LOCKSTEP_RETURN_IF_ERROR(CheckToken(token));
  CountTokens(SpanOf(message.shared_token_ids()), 0, sequence);
  sequence.length = tokens;
  sequence.counted_tokens = tokens;
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
  for (int32_t token : chunk.token_ids()) LOCKSTEP_RETURN_IF_ERROR(CheckToken(token));
  if (chunk.has_next_token_id()) LOCKSTEP_RETURN_IF_ERROR(CheckToken(chunk.next_token_id()));
  if (sequence.last_chunk_step == last_step_id_) {
    return Refuse("sequence ", sequence.id, " has two chunks");
  }
  return absl::OkStatus();
}

absl::Status SequenceTable::CheckBlock(int32_t block, const Sequence& sequence) const {
  if (block >= 0 && block < limits_.kv_blocks) return absl::OkStatus();
  return Refuse("sequence ", sequence.id, ": block ", block, " is not in [0, ", limits_.kv_blocks,
                ")");
}

void SequenceTable::Hold(int32_t block, Sequence& sequence) {
  ++blocks_[block].holders;
  sequence.block_table.push_back(block);
  sequence.block_hash = Combine(sequence.block_hash, block);
}

absl::Status SequenceTable::TakeBlocks(const v1::SequenceChunk& chunk, Sequence& sequence) {
  for (int32_t block : chunk.new_block_ids()) {
    LOCKSTEP_RETURN_IF_ERROR(CheckBlock(block, sequence));
    if (blocks_[block].holders > 0) {
      return Refuse("sequence ", sequence.id, ": block ", block, " is held already");
    }
    blocks_[block].full = false;
    Hold(block, sequence);
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
  CountTokens(SpanOf(chunk.token_ids()), sequence->length, *sequence);
  Advance(*sequence, rows);
  sequence->last_chunk_step = step.step_id;
  sequence->sampled_step = chunk.sample() ? step.step_id : 0;
  if (chunk.sample()) step.samples.push_back({first_row + rows - 1, sequence, sequence->length});
  return absl::OkStatus();
}

void SequenceTable::Advance(Sequence& sequence, int64_t rows) {
  const int64_t first_open = sequence.length / kernels::kBlockTokens;
  sequence.length += rows;
  for (int64_t i = first_open; i < sequence.length / kernels::kBlockTokens; ++i) {
    blocks_[sequence.block_table[i]].full = true;
  }
}

void SequenceTable::CountSampled(const Step& step, std::span<const int32_t> tokens) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    CountTokens(tokens.subspan(i, 1), step.samples[i].position, *step.samples[i].sequence);
  }
}

void SequenceTable::AddScores(const v1::SequenceChunk& chunk, const Sequence& sequence,
                              int64_t first_row, Step& step) {
  size_t first = step.scores.size();
  const int alternatives = sequence.prompt_top_logprobs;
  for (int i = 1; i < chunk.token_ids_size(); ++i) {
    if (sequence.length + i >= sequence.prompt_tokens) break;
    step.scores.push_back({first_row + i - 1, chunk.token_ids(i), alternatives});
  }
  int64_t end = sequence.length + RowsOf(chunk);
  if (chunk.has_next_token_id() && end < sequence.prompt_tokens) {
    step.scores.push_back({first_row + RowsOf(chunk) - 1, chunk.next_token_id(), alternatives});
  }
  size_t count = step.scores.size() - first;
  if (count > 0) step.score_ranges.push_back({sequence.id, sequence.length + 1, first, count});
}

}  // namespace lockstep::worker
