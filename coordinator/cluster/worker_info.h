// What a worker says of itself when it registers, and how the cluster refers to it.
#ifndef LOCKSTEP_COORDINATOR_CLUSTER_WORKER_INFO_H_
#define LOCKSTEP_COORDINATOR_CLUSTER_WORKER_INFO_H_

#include <cstdint>
#include <string>

namespace lockstep::coordinator {

/// One Join stream. Numbers grow and are never used again, so that what is late from a stream that
/// was replaced cannot be taken for its successor's.
enum class MemberId : uint64_t {};

/// A checked Register message; field by field as in cluster.proto.
struct WorkerInfo {
  std::string worker_id;
  std::string node;
  std::string shm_domain;
  std::string device;
  uint32_t local_index = 0;
  int64_t memory_bytes = 0;
  uint32_t threads = 0;
  uint32_t pid = 0;
  uint64_t highest_epoch = 0;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CLUSTER_WORKER_INFO_H_
