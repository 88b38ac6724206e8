// Memory less weights less activations, divided into blocks.
#include "coordinator/cluster/kv_capacity.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_format.h"
#include "coordinator/engine/block_pool.h"

namespace lockstep::coordinator {
namespace {

double MiB(int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

absl::Status TooSmall(const model::ParallelPlan& plan, const model::RankPlan& rank,
                      const WorkerInfo& worker, int64_t blocks) {
  std::string instead = blocks > 0
                            ? absl::StrFormat("--max-model-len up to %d", blocks * kBlockTokens)
                            : "a larger --tp or --pp";
  return absl::FailedPreconditionError(absl::StrFormat(
      "rank %d (%s on node %s) has %.0f MiB x --memory-fraction %.2f; weights take %.0f MiB and "
      "activations %.0f MiB, which leaves %d KV blocks of %d tokens (%.2f MiB each), and one "
      "sequence of %d tokens takes %d; legal: %s, a larger --memory-fraction, or more memory",
      rank.rank, worker.device, worker.node, MiB(worker.memory_bytes), plan.request.memory_fraction,
      MiB(rank.weight_bytes), MiB(rank.activation_bytes), blocks, kBlockTokens,
      MiB(rank.kv_bytes_per_token * kBlockTokens), plan.context_tokens,
      BlocksFor(plan.context_tokens), instead));
}

}  // namespace

absl::StatusOr<int64_t> KvBlocksFor(const model::ParallelPlan& plan,
                                    std::span<const WorkerInfo> worker_of_rank,
                                    int64_t max_sequences) {
  const int64_t one_context = BlocksFor(plan.context_tokens);
  int64_t least = one_context * max_sequences;
  for (const model::RankPlan& rank : plan.ranks) {
    const WorkerInfo& worker = worker_of_rank[rank.rank];
    double usable = static_cast<double>(worker.memory_bytes) * plan.request.memory_fraction;
    int64_t left = static_cast<int64_t>(usable) - rank.weight_bytes - rank.activation_bytes;
    int64_t blocks = std::max<int64_t>(left, 0) / (rank.kv_bytes_per_token * kBlockTokens);
    if (blocks < one_context) return TooSmall(plan, rank, worker, blocks);
    least = std::min(least, blocks);
  }
  return least;
}

}  // namespace lockstep::coordinator
