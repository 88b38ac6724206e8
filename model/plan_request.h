// What a user asks of a division of a model: sizes, nodes, memory, load.
#ifndef LOCKSTEP_MODEL_PLAN_REQUEST_H_
#define LOCKSTEP_MODEL_PLAN_REQUEST_H_

#include <cstdint>
#include <optional>

#include "base/dtype.h"

namespace lockstep::model {

struct PlanRequest {
  int tp_size = 1;
  int pp_size = 1;
  int devices_per_node = 0;  // 0: not known, one node is assumed large enough
  bool allow_cross_node_tp = false;
  std::optional<int64_t> device_memory_bytes;  // per device; nullopt: not checked
  double memory_fraction = 0.9;                // of device memory that Lockstep may use
  int64_t context_tokens = 0;                  // per sequence; 0: the model's max_position
  int concurrency = 1;                         // sequences of that length that should fit at once
  int64_t batch_tokens = 2048;                 // rows of the largest step, for the activations
  DType dtype = DType::kBF16;
};

}  // namespace lockstep::model

#endif  // LOCKSTEP_MODEL_PLAN_REQUEST_H_
