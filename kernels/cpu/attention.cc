// Cuts attention into tasks and shares them out; writes keys and values into the cache.
#include "kernels/attention.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "glog/logging.h"
#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/pack_kernels.h"
#include "kernels/cpu/scratch.h"

namespace lockstep::kernels {
namespace {

// Token-times-query pairs worth waking another thread for: some ten microseconds of work.
constexpr int64_t kWorkToShare = 16384;

// One row into slot `slot` of one block: keys as [kv_head][head_dim][slot], values as
// [kv_head][slot][head_dim]. `row` has room for one converted row.
template <typename T>
void StoreRow(const float* key, const float* value, const KvLayout& layout, int slot, T* row,
              T* key_block, T* value_block) {
  int head_dim = layout.head_dim;
  auto convert = [&](const float* from, int64_t count, T* to) {
    cpu::ConvertRow(reinterpret_cast<const std::byte*>(from), DType::kF32, count, layout.dtype,
                    reinterpret_cast<std::byte*>(to));
  };
  convert(key, layout.kv_heads * head_dim, row);
  for (int i = 0; i < layout.kv_heads * head_dim; ++i) {
    key_block[i * kBlockTokens + slot] = row[i];
  }
  for (int head = 0; head < layout.kv_heads; ++head) {
    convert(value + head * head_dim, head_dim,
            value_block + (head * kBlockTokens + slot) * head_dim);
  }
}

template <typename T>
void StoreSequence(ConstMatrix keys, ConstMatrix values, const SequenceRows& sequence,
                   const KvLayout& layout, KvLayer layer, ThreadPool& pool) {
  pool.ParallelFor(sequence.rows, /*grain=*/64, [&](int64_t begin, int64_t end) {
    thread_local cpu::Scratch scratch;
    T* row = reinterpret_cast<T*>(scratch.Get(keys.cols * static_cast<int64_t>(sizeof(T))));
    for (int64_t r = begin; r < end; ++r) {
      int64_t position = sequence.first_position + r;
      int64_t offset = sequence.block_table[position / kBlockTokens] * layout.block_bytes();
      StoreRow(keys.row(sequence.first_row + r), values.row(sequence.first_row + r), layout,
               static_cast<int>(position % kBlockTokens), row,
               reinterpret_cast<T*>(layer.keys + offset),
               reinterpret_cast<T*>(layer.values + offset));
    }
  });
}

// KV heads that one task takes for `rows` rows: as many as its query vectors allow, since a block
// of the cache is read best in one go, but few enough that every member of the pool has a share.
int HeadsPerTask(int64_t rows, size_t sequences, int group, const KvLayout& layout, int members) {
  int64_t fit = cpu::kMaxQueries / (rows * group);
  int64_t share = layout.kv_heads * static_cast<int64_t>(sequences) / members;
  return static_cast<int>(std::clamp<int64_t>(std::min(fit, share), 1, layout.kv_heads));
}

// All tasks of a step, the longest contexts first, so that the shares come out even.
std::vector<cpu::AttentionTask> MakeTasks(ConstMatrix q, std::span<const SequenceRows> sequences,
                                          const KvLayout& layout, float scale, Matrix out,
                                          int members) {
  int group = static_cast<int>(q.cols / layout.head_dim) / layout.kv_heads;
  int64_t rows_per_task = std::max(1, cpu::kMaxQueries / group);
  std::vector<cpu::AttentionTask> tasks;
  for (const SequenceRows& sequence : sequences) {
    int heads = HeadsPerTask(std::min(sequence.rows, rows_per_task), sequences.size(), group,
                             layout, members);
    for (int64_t row = 0; row < sequence.rows; row += rows_per_task) {
      for (int head = 0; head < layout.kv_heads; head += heads) {
        tasks.push_back({.q = q,
                         .out = out,
                         .sequence = &sequence,
                         .row_begin = row,
                         .row_end = std::min(sequence.rows, row + rows_per_task),
                         .kv_head_begin = head,
                         .kv_head_end = std::min(layout.kv_heads, head + heads),
                         .group = group,
                         .scale = scale});
      }
    }
  }
  auto context = [](const cpu::AttentionTask& task) {
    return task.sequence->first_position + task.row_end;
  };
  std::stable_sort(tasks.begin(), tasks.end(),
                   [&](const auto& a, const auto& b) { return context(a) > context(b); });
  return tasks;
}

int64_t Work(std::span<const cpu::AttentionTask> tasks) {
  int64_t work = 0;
  for (const cpu::AttentionTask& task : tasks) {
    work += (task.sequence->first_position + task.row_end) * (task.row_end - task.row_begin) *
            task.group * (task.kv_head_end - task.kv_head_begin);
  }
  return work;
}

}  // namespace

void StoreKv(ConstMatrix keys, ConstMatrix values, std::span<const SequenceRows> sequences,
             const KvLayout& layout, KvLayer layer, ThreadPool& pool) {
  for (const SequenceRows& sequence : sequences) {
    if (layout.dtype == DType::kF32) {
      StoreSequence<float>(keys, values, sequence, layout, layer, pool);
    } else {
      StoreSequence<uint16_t>(keys, values, sequence, layout, layer, pool);
    }
  }
}

void PagedAttention(ConstMatrix q, std::span<const SequenceRows> sequences, const KvLayout& layout,
                    KvLayer layer, float scale, Matrix out, ThreadPool& pool) {
  int64_t heads = q.cols / layout.head_dim;
  CHECK_EQ(heads % layout.kv_heads, 0);
  CHECK_LE(heads / layout.kv_heads, cpu::kMaxQueries);
  std::vector<cpu::AttentionTask> tasks = MakeTasks(q, sequences, layout, scale, out, pool.size());
  std::atomic<size_t> next{0};
  auto take_tasks = [&](int /*member*/) {
    thread_local cpu::Scratch scratch;
    float* memory = scratch.Get(cpu::AttentionScratchFloats(layout.head_dim) *
                                static_cast<int64_t>(sizeof(float)));
    for (size_t i = next++; i < tasks.size(); i = next++) {
      cpu::AttendTask(tasks[i], layout, layer, memory);
    }
  };
  if (Work(tasks) < kWorkToShare) return take_tasks(0);
  pool.Run(take_tasks);
}

}  // namespace lockstep::kernels
