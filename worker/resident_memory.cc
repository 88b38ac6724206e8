// Reads /proc/self/status, /proc/meminfo and the control group's limit.
#include "worker/resident_memory.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <initializer_list>
#include <limits>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>

namespace lockstep::worker {
namespace {

// The sum of lines like "RssAnon:     1234 kB".
int64_t SumOfKilobyteLines(const char* file, std::initializer_list<std::string_view> keys) {
  std::ifstream in(file);
  int64_t bytes = 0;
  for (std::string line; std::getline(in, line);) {
    for (std::string_view key : keys) {
      if (line.compare(0, key.size(), key) != 0) continue;
      int64_t kilobytes = 0;
      std::istringstream(line.substr(key.size())) >> kilobytes;
      bytes += kilobytes * 1024;
    }
  }
  return bytes;
}

// nullopt for a file that is not there or says "max".
std::optional<int64_t> ReadNumber(const char* file) {
  std::ifstream in(file);
  int64_t value = 0;
  if (in >> value) return value;
  return std::nullopt;
}

// The sum of lines like "inactive_file 1234", in bytes: pages that the kernel gives up on demand.
int64_t FileCacheBytes(const char* stat_file) {
  std::ifstream in(stat_file);
  int64_t bytes = 0;
  for (std::string key, value; in >> key >> value;) {
    if (key == "inactive_file" || key == "active_file") bytes += std::atoll(value.c_str());
  }
  return bytes;
}

// What limit minus use leaves; version 2 of control groups, then version 1.
int64_t ControlGroupLeft() {
  constexpr const char* kFiles[][3] = {
      {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"},
      {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes",
       "/sys/fs/cgroup/memory/memory.stat"},
  };
  for (const auto& [limit_file, use_file, stat_file] : kFiles) {
    std::optional<int64_t> limit = ReadNumber(limit_file);
    std::optional<int64_t> use = ReadNumber(use_file);
    if (limit && use) return std::max<int64_t>(0, *limit - *use + FileCacheBytes(stat_file));
  }
  return std::numeric_limits<int64_t>::max();
}

}  // namespace

int64_t ResidentBytes() {
  return SumOfKilobyteLines("/proc/self/status", {"RssAnon:", "RssShmem:"});
}

int64_t AvailableMemoryBytes() {
  return std::min(SumOfKilobyteLines("/proc/meminfo", {"MemAvailable:"}), ControlGroupLeft());
}

}  // namespace lockstep::worker
