// Reading /sys and dividing processors.
#include "worker/devices.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/processors.h"
#include "base/status_macros.h"

namespace lockstep::worker {
namespace {

constexpr int kMostCpus = 1 << 16;

bool ParseNumber(std::string_view text, int& value) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && value >= 0 &&
         value < kMostCpus;
}

std::string FirstLine(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

// Drops the second and later hardware threads of a core: they share its vector units.
std::vector<int> OnePerCore(const std::vector<int>& cpus) {
  std::set<std::string> cores;
  std::vector<int> kept;
  for (int cpu : cpus) {
    std::string siblings = FirstLine(
        absl::StrCat("/sys/devices/system/cpu/cpu", cpu, "/topology/thread_siblings_list"));
    if (siblings.empty() || cores.insert(siblings).second) kept.push_back(cpu);
  }
  return kept;
}

std::vector<std::vector<int>> ByNumaNode(const std::vector<int>& cpus) {
  std::vector<std::vector<int>> nodes;
  for (int node = 0;; ++node) {
    std::string list = FirstLine(absl::StrCat("/sys/devices/system/node/node", node, "/cpulist"));
    absl::StatusOr<std::vector<int>> of_node = ParseCpuList(list);
    if (!of_node.ok()) break;
    std::vector<int> both;
    std::set_intersection(cpus.begin(), cpus.end(), of_node->begin(), of_node->end(),
                          std::back_inserter(both));
    if (!both.empty()) nodes.push_back(std::move(both));
  }
  if (nodes.empty()) nodes.push_back(cpus);
  return nodes;
}

absl::StatusOr<std::vector<std::string>> ParseNames(std::string_view devices) {
  std::vector<std::string> names =
      absl::StrSplit(absl::string_view(devices.data(), devices.size()), ',');
  std::set<std::string> seen;
  for (const std::string& name : names) {
    int index = 0;
    bool legal = name.rfind("cpu:", 0) == 0 && ParseNumber(std::string_view(name).substr(4), index);
    if (!legal) {
      return absl::InvalidArgumentError(absl::StrCat(
          "device '", name, "' is not known; --devices takes all, or a list of cpu:0, cpu:1, ..."));
    }
    if (!seen.insert(name).second) {
      return absl::InvalidArgumentError(absl::StrCat("--devices names ", name, " twice"));
    }
  }
  return names;
}

// Part `index` of `count` of the processors: contiguous, equal, at least one.
std::vector<int> Share(const std::vector<int>& cpus, size_t index, size_t count) {
  size_t begin = index * cpus.size() / count;
  size_t end = std::max(begin + 1, (index + 1) * cpus.size() / count);
  return {cpus.begin() + begin, cpus.begin() + end};
}

}  // namespace

absl::StatusOr<std::vector<int>> ParseCpuList(std::string_view text) {
  std::set<int> cpus;
  const std::vector<std::string> parts =
      absl::StrSplit(absl::string_view(text.data(), text.size()), ',');
  for (const std::string& part : parts) {
    std::vector<std::string> ends = absl::StrSplit(part, '-');
    int first = 0;
    int last = 0;
    bool legal = ends.size() <= 2 && ParseNumber(ends.front(), first) &&
                 ParseNumber(ends.back(), last) && first <= last;
    if (!legal) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", std::string(text), "' is not a list of processors like 0-3,8"));
    }
    for (int cpu = first; cpu <= last; ++cpu) cpus.insert(cpu);
  }
  return std::vector<int>(cpus.begin(), cpus.end());
}

std::string FormatCpuList(const std::vector<int>& cpus) { return absl::StrJoin(cpus, ","); }

Processors ReadProcessors() {
  Processors processors;
  processors.cpus = OnePerCore(AllowedCpus());
  processors.numa_nodes = ByNumaNode(processors.cpus);
  return processors;
}

absl::StatusOr<std::vector<Device>> PlaceDevices(std::string_view devices,
                                                 const Processors& processors) {
  std::vector<Device> placed;
  if (devices == "all") {
    for (const std::vector<int>& node : processors.numa_nodes) {
      placed.push_back({absl::StrCat("cpu:", placed.size()), node});
    }
    return placed;
  }
  LOCKSTEP_ASSIGN_OR_RETURN(std::vector<std::string> names, ParseNames(devices));
  for (size_t i = 0; i < names.size(); ++i) {
    placed.push_back({names[i], Share(processors.cpus, i, names.size())});
  }
  return placed;
}

}  // namespace lockstep::worker
