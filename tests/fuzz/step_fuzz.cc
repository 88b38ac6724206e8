// The step decoder: a sequence of StepBatch messages, each behind its length in two bytes, applied
// to one table until it refuses one.
#include <glog/logging.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "proto/lockstep/v1/cluster.pb.h"
#include "worker/sequence_table.h"

namespace {

constexpr lockstep::worker::SequenceLimits kLimits = {.epoch = 1,
                                                      .kv_blocks = 16,
                                                      .max_batch_tokens = 64,
                                                      .max_sequences = 4,
                                                      .context_tokens = 128,
                                                      .vocab_size = 1000};

void CheckStep(const lockstep::worker::Step& step) {
  CHECK_LE(step.rows(), kLimits.max_batch_tokens);
  CHECK_EQ(step.tokens.size(), step.positions.size());
  for (const int32_t token : step.tokens) {
    CHECK_GE(token, -1);
    CHECK_LT(token, kLimits.vocab_size);
  }
  for (const int32_t position : step.positions) {
    CHECK_GE(position, 0);
    CHECK_LT(position, kLimits.context_tokens);
  }
  for (const auto& sample : step.samples) CHECK_LT(sample.row, step.rows());
  for (const auto& score : step.scores) CHECK_LT(score.row, step.rows());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  lockstep::worker::SequenceTable table(kLimits);
  lockstep::v1::StepBatch batch;
  while (size >= 2) {
    const size_t length = std::min<size_t>(data[0] | data[1] << 8, size - 2);
    if (!batch.ParseFromArray(data + 2, static_cast<int>(length))) return 0;
    const auto step = table.Apply(batch);
    if (!step.ok()) {
      CHECK(!step.status().message().empty());
      return 0;
    }
    CheckStep(*step);
    (void)table.Digest();
    data += 2 + length;
    size -= 2 + length;
  }
  return 0;
}
