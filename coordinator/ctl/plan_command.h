// `coordinatorctl plan`: who would hold what, or why not, from config.json alone.
#ifndef LOCKSTEP_COORDINATOR_CTL_PLAN_COMMAND_H_
#define LOCKSTEP_COORDINATOR_CTL_PLAN_COMMAND_H_

#include <cstdint>
#include <ostream>
#include <string>

namespace lockstep::coordinator {

/// The flags as typed.
struct PlanOptions {
  std::string model;  // a directory, or org/name of the local Hugging Face cache
  int tp = 1;
  int pp = 1;
  int devices_per_node = 0;  // 0: not known
  bool allow_cross_node_tp = false;
  std::string device_memory;  // "80GiB"; empty: memory is not checked
  double memory_fraction = 0.9;
  int64_t context = 0;  // tokens; 0: the model's longest
  int concurrency = 1;
  int64_t max_num_batched_tokens = 2048;
  std::string dtype = "bf16";  // bf16 or fp32
  bool json = false;
};

/// Prints the plan to `out`. A refusal goes to `err` (and, with `json`, also to `out` as an
/// object). Reads config.json only. Returns the exit status: 0 for a legal plan, 1 for a refused
/// one or a model that cannot be read.
int RunPlan(const PlanOptions& options, std::ostream& out, std::ostream& err);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CTL_PLAN_COMMAND_H_
