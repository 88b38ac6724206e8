// The vector code of attention, compiled once per instruction set and chosen at run time.
#ifndef LOCKSTEP_KERNELS_CPU_ATTENTION_KERNELS_H_
#define LOCKSTEP_KERNELS_CPU_ATTENTION_KERNELS_H_

#include <cstdint>

#include "kernels/attention.h"

namespace lockstep::kernels::cpu {

/// Query vectors (rows times the heads of one KV group) that share one pass over keys and values.
inline constexpr int kMaxQueries = 128;

/// Some rows of one sequence against one KV head. A query vector is one (row, head of the group);
/// vector i is row first_row + i / group, head kv_head * group + i % group.
struct AttentionTask {
  ConstMatrix q;
  Matrix out;
  const SequenceRows* sequence = nullptr;
  int64_t row_begin = 0;  // within the sequence's rows
  int64_t row_end = 0;    // (row_end - row_begin) * group <= kMaxQueries
  int kv_head = 0;
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
