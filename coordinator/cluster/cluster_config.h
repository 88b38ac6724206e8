// What the operator asked for: the legal plan, the model as workers are told of it, and how patient
// formation is.
#ifndef LOCKSTEP_COORDINATOR_CLUSTER_CLUSTER_CONFIG_H_
#define LOCKSTEP_COORDINATOR_CLUSTER_CLUSTER_CONFIG_H_

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "model/parallel_plan.h"
#include "proto/lockstep/v1/cluster.pb.h"

namespace lockstep::coordinator {

struct FormationPolicy {
  /// From the assignments until every rank has told its addresses.
  absl::Duration address_deadline = absl::Seconds(30);
  /// While ranks connect, load and open their streams: the longest time in which none of them moves
  /// on. Loading as such may take as long as it takes.
  absl::Duration progress_deadline = absl::Seconds(30);
  /// Between the end of an epoch and the next try; doubles with every try that does not get to
  /// serve.
  absl::Duration first_retry = absl::Milliseconds(100);
  absl::Duration longest_retry = absl::Seconds(5);
};

struct ClusterConfig {
  /// Made by MakeParallelPlan, hence legal; sizes, memory fraction, batch and context are taken
  /// from here.
  model::ParallelPlan plan;
  /// Groups of ranks, each of them the whole plan.
  int replicas = 1;
  v1::ModelAssignment model;
  /// For people: the name that requests use, and "LlamaForCausalLM".
  std::string model_name;
  std::string architecture;
  /// Most sequences alive at once.
  int64_t max_sequences = 32;
  FormationPolicy policy;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_CLUSTER_CLUSTER_CONFIG_H_
