// The header of a safetensors file, checked against the file's length: a pure function of bytes, so
// that it can be tested with every corruption.
#ifndef LOCKSTEP_MODEL_SAFETENSORS_HEADER_H_
#define LOCKSTEP_MODEL_SAFETENSORS_HEADER_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace lockstep::model {

struct SafetensorsEntry {
  std::string dtype;  // as in the file: "BF16", "F32", "I64", ...
  std::vector<int64_t> shape;
  uint64_t begin = 0;  // bytes from the start of the file
  uint64_t end = 0;
};
using SafetensorsIndex = std::map<std::string, SafetensorsEntry, std::less<>>;

/// Where the header ends according to the first 8 bytes of `file`, within file.size() and the
/// format's limit: what must be readable before ParseSafetensorsHeader. Looks at those 8 bytes
/// only.
uint64_t SafetensorsHeaderEnd(std::span<const std::byte> file);

/// Reads the header at the start of a file whose length is file.size(): 8 bytes little-endian
/// header length, JSON, tensors (format: huggingface/safetensors, README). Looks at header bytes
/// only. The tensors must tile the rest of the file exactly, each as long as its dtype and shape
/// say. `name` begins every message. DataLoss for a file that is shorter or longer than its header
/// says; InvalidArgument for a header that is malformed or contradicts itself.
absl::StatusOr<SafetensorsIndex> ParseSafetensorsHeader(std::span<const std::byte> file,
                                                        const std::string& name);

}  // namespace lockstep::model

#endif  // LOCKSTEP_MODEL_SAFETENSORS_HEADER_H_
