// The architectures that Lockstep knows, as data: how each is called and how it spells its weights.
// A new architecture of the same shape is a new entry here, not new code.
#ifndef LOCKSTEP_MODEL_ARCHITECTURES_H_
#define LOCKSTEP_MODEL_ARCHITECTURES_H_

#include <string>
#include <string_view>
#include <vector>

#include "model/decoder_spec.h"

namespace lockstep::model {

struct Architecture {
  std::string name;        // as in config.json's "architectures"
  std::string model_type;  // as in config.json's "model_type"
  std::vector<WeightName> weight_names;
};

/// All of them; lives as long as the process.
const std::vector<Architecture>& KnownArchitectures();

/// nullptr when there is none of that name (or of that model type).
const Architecture* FindArchitecture(std::string_view name);
const Architecture* FindModelType(std::string_view model_type);

}  // namespace lockstep::model

#endif  // LOCKSTEP_MODEL_ARCHITECTURES_H_
