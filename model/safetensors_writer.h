// Writes small safetensors files for tests.
#ifndef LOCKSTEP_MODEL_SAFETENSORS_WRITER_H_
#define LOCKSTEP_MODEL_SAFETENSORS_WRITER_H_

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace lockstep::model {

struct TensorToWrite {
  std::string name;
  std::string dtype;  // in safetensors' words: "BF16"
  std::vector<int64_t> shape;
  std::string data;  // row-major bytes
};

/// The file's bytes, tensors one after the other in the given order.
std::string SerializeSafetensors(const std::vector<TensorToWrite>& tensors);

/// Puts `bytes` at `path`, replacing what is there.
absl::Status WriteBytes(const std::filesystem::path& path, const std::string& bytes);

}  // namespace lockstep::model

#endif  // LOCKSTEP_MODEL_SAFETENSORS_WRITER_H_
