// Where the ids that a row keeps end, in the order of probability.
#ifndef LOCKSTEP_WORKER_CUTOFF_H_
#define LOCKSTEP_WORKER_CUTOFF_H_

#include <cstdint>
#include <limits>

namespace lockstep::worker {

/// A vocabulary id and its logit. id -1 fills up lists of shards that have fewer.
struct Candidate {
  float logit = -std::numeric_limits<float>::infinity();
  int32_t id = -1;
};

/// More probable first; ties go to the lower id.
inline constexpr auto Precedes = [](const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
};

/// The last candidate that is kept; by default all are.
struct Cutoff {
  float logit = -std::numeric_limits<float>::infinity();
  int32_t last_id = std::numeric_limits<int32_t>::max();

  bool Keeps(const Candidate& c) const {
    return c.logit > logit || (c.logit == logit && c.id <= last_id);
  }
};

/// The cutoff that keeps what both keep.
inline Cutoff Stricter(const Cutoff& a, const Cutoff& b) {
  if (a.logit != b.logit) return a.logit > b.logit ? a : b;
  return a.last_id < b.last_id ? a : b;
}

}  // namespace lockstep::worker

#endif  // LOCKSTEP_WORKER_CUTOFF_H_
