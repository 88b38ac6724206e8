// Step batches as a coordinator would compose them, for tests.
#ifndef LOCKSTEP_WORKER_TESTING_BATCHES_H_
#define LOCKSTEP_WORKER_TESTING_BATCHES_H_

#include <cstdint>
#include <map>
#include <vector>

#include "proto/lockstep/v1/cluster.pb.h"

namespace lockstep::worker {

/// Numbers the steps and hands out blocks, never the same one twice.
class BatchComposer {
 public:
  explicit BatchComposer(uint64_t epoch) : epoch_(epoch) {}

  /// Greedy, seed 1, all log-probabilities.
  static v1::NewSequence Greedy(uint64_t id, int prompt_tokens);

  /// The calls since the last Take, as the next batch.
  v1::StepBatch Take();

  /// Goes on behind the sequence's shared blocks, if it has any.
  void New(const v1::NewSequence& sequence);
  void Free(uint64_t id);
  /// The next chunk of the sequence; samples if asked to. `next` as in SequenceChunk.
  v1::SequenceChunk& Chunk(uint64_t id, const std::vector<int32_t>& tokens, bool sample);
  /// "The token sampled last", sampling again.
  v1::SequenceChunk& Decode(uint64_t id);

 private:
  v1::SequenceChunk& Add(uint64_t id, int rows);

  const uint64_t epoch_;
  uint64_t step_id_ = 0;
  int32_t next_block_ = 0;
  std::map<uint64_t, int> lengths_;
  v1::StepBatch batch_;
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_TESTING_BATCHES_H_
