// Any bytes as a safetensors file: what is accepted tiles the file.
#include <glog/logging.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "model/safetensors_header.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> file(reinterpret_cast<const std::byte*>(data), size);
  if (size >= 8) CHECK_LE(lockstep::model::SafetensorsHeaderEnd(file), size);
  const auto index = lockstep::model::ParseSafetensorsHeader(file, "file");
  if (!index.ok()) {
    CHECK(!index.status().message().empty());
    return 0;
  }
  uint64_t bytes = 0;
  for (const auto& [name, entry] : *index) {
    CHECK_LE(entry.begin, entry.end);
    CHECK_LE(entry.end, size);
    bytes += entry.end - entry.begin;
  }
  CHECK_LE(bytes, size);
  return 0;
}
