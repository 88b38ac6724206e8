// BatchComposer.
#include "worker/testing/batches.h"

#include <utility>

namespace lockstep::worker {
namespace {

constexpr int kBlockTokens = 16;

int BlocksFor(int tokens) { return (tokens + kBlockTokens - 1) / kBlockTokens; }

}  // namespace

v1::NewSequence BatchComposer::Greedy(uint64_t id, int prompt_tokens) {
  v1::NewSequence sequence;
  sequence.set_sequence_id(id);
  sequence.set_prompt_tokens(prompt_tokens);
  sequence.set_logprobs(true);
  sequence.set_prompt_logprobs(true);
  sequence.mutable_sampling()->set_temperature(0);
  sequence.mutable_sampling()->set_top_k(0);
  sequence.mutable_sampling()->set_top_p(1);
  sequence.mutable_sampling()->set_seed(1);
  return sequence;
}

v1::StepBatch BatchComposer::Take() {
  batch_.set_epoch(epoch_);
  batch_.set_step_id(++step_id_);
  return std::exchange(batch_, v1::StepBatch());
}

void BatchComposer::New(const v1::NewSequence& sequence) {
  lengths_[sequence.sequence_id()] = kBlockTokens * sequence.shared_block_ids_size();
  *batch_.add_new_sequences() = sequence;
}

void BatchComposer::Free(uint64_t id) { batch_.add_freed_sequence_ids(id); }

v1::SequenceChunk& BatchComposer::Chunk(uint64_t id, const std::vector<int32_t>& tokens,
                                        bool sample) {
  v1::SequenceChunk& chunk = Add(id, static_cast<int>(tokens.size()));
  chunk.mutable_token_ids()->Add(tokens.begin(), tokens.end());
  chunk.set_sample(sample);
  return chunk;
}

v1::SequenceChunk& BatchComposer::Decode(uint64_t id) {
  v1::SequenceChunk& chunk = Add(id, 1);
  chunk.set_sample(true);
  return chunk;
}

v1::SequenceChunk& BatchComposer::Add(uint64_t id, int rows) {
  v1::SequenceChunk& chunk = *batch_.add_chunks();
  int& length = lengths_[id];
  chunk.set_sequence_id(id);
  chunk.set_first_position(length);
  for (int block = BlocksFor(length); block < BlocksFor(length + rows); ++block) {
    chunk.add_new_block_ids(next_block_++);
  }
  length += rows;
  return chunk;
}

}  // namespace lockstep::worker
