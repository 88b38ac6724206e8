// What a rank remembers of the sequences that are being generated, and how a StepBatch changes it.
// Every rank of the group applies the same batches and so holds the same table.
#ifndef LOCKSTEP_WORKER_SEQUENCE_TABLE_H_
#define LOCKSTEP_WORKER_SEQUENCE_TABLE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/attention.h"
#include "proto/lockstep/v1/cluster.pb.h"
#include "worker/sampling.h"

namespace lockstep::worker {

struct Sequence {
  uint64_t id = 0;
  Sampling sampling;
  int64_t prompt_tokens = 0;
  bool logprobs = false;
  bool prompt_logprobs = false;
  int top_logprobs = 0;  // alternatives to report
  int prompt_top_logprobs = 0;
  int64_t length = 0;                // tokens whose keys and values are in the cache
  std::vector<int32_t> block_table;  // token t lies in block_table[t / kBlockTokens]
  uint64_t block_hash = 0;           // over block_table, kept up with it
  uint64_t last_chunk_step = 0;      // the step of the last chunk
  // The step of the last chunk if that sampled, so that the next one may say "the token sampled
  // last"; 0 if it did not.
  uint64_t sampled_step = 0;
  // The newest token that this rank knows of, and the step that sampled it; 0 for none.
  int32_t last_token = 0;
  uint64_t last_token_step = 0;
  // The tokens at positions below counted_tokens, if a penalty needs them. On ranks that do not
  // sample, only those that a batch named.
  std::optional<TokenCounts> counts;
  int64_t counted_tokens = 0;
};

/// What one batch asks of the forward pass. Points into the table: valid until the next Apply.
struct Step {
  /// A row whose token is the one that `sampled_step` sampled for the sequence.
  struct PendingToken {
    int64_t row;
    Sequence* sequence;
    uint64_t sampled_step;
  };
  /// A row after which a token is sampled, to stand at `position`.
  struct Sample {
    int64_t row;
    Sequence* sequence;
    int64_t position;
  };
  /// A row whose logits score the known token `target`.
  struct Score {
    int64_t row;
    int32_t target;
    int alternatives;
  };
  /// Scores [first, first + count) belong to the tokens at first_position, ... of the sequence.
  struct ScoreRange {
    uint64_t sequence_id;
    int64_t first_position;
    size_t first;
    size_t count;
  };

  uint64_t step_id = 0;
  std::vector<int32_t> tokens;     // [rows]; -1 in pending rows
  std::vector<int32_t> positions;  // [rows]
  std::vector<kernels::SequenceRows> sequences;
  std::vector<PendingToken> pending;
  std::vector<Sample> samples;
  std::vector<Score> scores;
  std::vector<ScoreRange> score_ranges;

  int64_t rows() const { return static_cast<int64_t>(tokens.size()); }
};

struct SequenceLimits {
  uint64_t epoch = 0;
  int64_t kv_blocks = 0;
  int64_t max_batch_tokens = 0;
  int64_t max_sequences = 0;
  int64_t context_tokens = 0;
  int64_t vocab_size = 0;
};

/// Belongs to the compute thread.
class SequenceTable {
 public:
  explicit SequenceTable(const SequenceLimits& limits);

  /// Applies freed sequences, new sequences and chunks, in this order. InvalidArgument, naming
  /// step, sequence and numbers, for what makes no sense: a stale epoch, a gap in step ids or
  /// positions, an unknown or repeated sequence, a token, block or parameter out of range, a new
  /// block that a sequence holds, a shared block that is not full, a chunk without room in its
  /// blocks, "the token sampled last" where none was. The table is then unusable: the epoch ends.
  absl::StatusOr<Step> Apply(const v1::StepBatch& batch);

  /// On ranks that sample: `tokens` are those of step.samples. Must come before the next Apply.
  void CountSampled(const Step& step, std::span<const int32_t> tokens);

  /// nullptr when the sequence is not alive. Stays valid until the sequence is freed.
  Sequence* Find(uint64_t sequence_id);

  /// Over step id, sequences, lengths and block tables; equal on all ranks after the same batches.
  uint64_t Digest() const;

 private:
  struct Block {
    int32_t holders = 0;
    // All of its tokens have been computed, so that sequences may share it, held or not.
    bool full = false;
  };

  absl::Status Free(uint64_t sequence_id);
  absl::Status Add(const v1::NewSequence& sequence);
  absl::Status AddChunk(const v1::SequenceChunk& chunk, Step& step);
  absl::Status CheckChunk(const v1::SequenceChunk& chunk, const Sequence& sequence,
                          const Step& step) const;
  absl::Status CheckBlock(int32_t block, const Sequence& sequence) const;
  void Hold(int32_t block, Sequence& sequence);
  void Advance(Sequence& sequence, int64_t rows);
  absl::Status TakeBlocks(const v1::SequenceChunk& chunk, Sequence& sequence);
  absl::Status TakeSharedBlocks(const v1::NewSequence& message, Sequence& sequence);
  absl::Status CheckToken(int32_t token) const;
  static void AddScores(const v1::SequenceChunk& chunk, const Sequence& sequence, int64_t first_row,
                        Step& step);

  const SequenceLimits limits_;
  uint64_t last_step_id_ = 0;
  std::unordered_map<uint64_t, std::unique_ptr<Sequence>> sequences_;
  std::vector<Block> blocks_;
};

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_SEQUENCE_TABLE_H_
