// The vector code of attention, compiled once per instruction set and chosen at run time.
#ifndef LOCKSTEP_KERNELS_CPU_ATTENTION_KERNELS_H_
#define LOCKSTEP_KERNELS_CPU_ATTENTION_KERNELS_H_

#include <cstdint>

#include "kernels/attention.h"

namespace lockstep::kernels::cpu {

/// Query vectors (rows times heads) that share one pass over the cache.
inline constexpr int kMaxQueries = 128;

/// Some rows of one sequence against some KV heads. Of each KV head's query vectors, vector i is
/// row row_begin + i / group, head kv_head * group + i % group.
struct AttentionTask {
  ConstMatrix q;
  Matrix out;
  const SequenceRows* sequence = nullptr;
  int64_t row_begin = 0;  // within the sequence's rows
  int64_t row_end = 0;
  int kv_head_begin = 0;
  int kv_head_end = 0;  // rows * KV heads * group <= kMaxQueries
  int group = 1;
  float scale = 1;
};

/// Scratch that AttendTask needs, in floats.
int64_t AttentionScratchFloats(int head_dim);

/// Computes the task's elements of out. scratch: AttentionScratchFloats, 64-byte aligned.
void AttendTask(const AttentionTask& task, const KvLayout& layout, const KvLayer& layer,
                float* scratch);

}  // namespace lockstep::kernels::cpu

#endif  // LOCKSTEP_KERNELS_CPU_ATTENTION_KERNELS_H_
