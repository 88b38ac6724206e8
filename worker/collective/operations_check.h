// One script of collective operations that checks its own results; the tests run it on every
// transport, in threads and in processes.
#ifndef LOCKSTEP_WORKER_COLLECTIVE_OPERATIONS_CHECK_H_
#define LOCKSTEP_WORKER_COLLECTIVE_OPERATIONS_CHECK_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "worker/collective/collective.h"

namespace lockstep::worker {

/// Element `i` of the addend of `rank` in the test `seed`: the same in every process. Magnitudes
/// differ by thousands, so that the order of adding shows in the bits.
float TestAddend(uint64_t seed, int rank, int64_t i);

/// The bits that AllReduceSum promises: added in rank order in fp32.
std::vector<float> RankOrderSum(uint64_t seed, int size, int64_t count);

/// Runs `rounds` operations of random kinds and sizes, drawn from `seed`, which all ranks share.
/// An error says which operation gave which wrong result.
absl::Status CheckOperations(Collective& collective, uint64_t seed, int rounds, int64_t max_count);

/// One AllReduceSum, checked against RankOrderSum bit by bit and a sum in double precision.
absl::Status CheckAllReduce(Collective& collective, uint64_t seed, int64_t count);

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_COLLECTIVE_OPERATIONS_CHECK_H_
