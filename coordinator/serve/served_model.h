// What the services know of the model that the cluster serves.
#ifndef LOCKSTEP_COORDINATOR_SERVE_SERVED_MODEL_H_
#define LOCKSTEP_COORDINATOR_SERVE_SERVED_MODEL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "model/generation_defaults.h"

namespace lockstep::coordinator {

struct ServedModel {
  std::string name;  // as answers name it
  // Further names that requests may use.
  std::vector<std::string> aliases;
  std::string architecture;  // "LlamaForCausalLM"
  int64_t context_tokens = 0;
  int64_t vocab_size = 0;  // of config.json: rows of the embedding
  model::GenerationDefaults defaults;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_SERVE_SERVED_MODEL_H_
