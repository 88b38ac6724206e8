// From flags to a model that may be served: everything that can be refused before a port is opened.
#ifndef LOCKSTEP_COORDINATOR_MODEL_SET_UP_H_
#define LOCKSTEP_COORDINATOR_MODEL_SET_UP_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/cluster/cluster_config.h"
#include "coordinator/serve/served_model.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace lockstep::coordinator {

/// The flags that concern the model, as typed; main.cc says what each means.
struct ModelFlags {
  std::string model;
  // As requests may name the model, the first being the one that answers give; empty: one name,
  // made of `model`.
  std::vector<std::string> served_model_names;
  std::string workers_model_dir;
  std::string load_format;
  bool skip_tokenizer_init = false;
  uint64_t dummy_seed = 0;
  std::string dtype;
  int tp = 1;
  int pp = 1;
  bool allow_cross_node_tp = false;
  double memory_fraction = 0.9;
  int64_t max_model_len = 0;
  int64_t max_num_seqs = 32;
  int64_t max_num_batched_tokens = 2048;
};

struct ModelSetUp {
  ClusterConfig cluster;
  ServedModel served;
  std::unique_ptr<text::Tokenizer> tokenizer;
  std::unique_ptr<text::ChatTemplate> chat_template;  // null: the model has none
  std::optional<uint64_t> seed;  // of the seeds of requests without one; nullopt: random
};

/// Finds and reads the model's files (weights are the workers' business) and makes the plan. With
/// dummy weights only config.json has to be there. Every error names the flag or the file.
absl::StatusOr<ModelSetUp> SetUpModel(const ModelFlags& flags);

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_MODEL_SET_UP_H_
