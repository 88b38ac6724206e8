// Flag names as users type them, rewritten before Abseil sees them.
#include "base/flags_main.h"

#include <glog/logging.h>
#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <map>
#include <optional>
#include <string_view>

#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

namespace lockstep {
namespace {

struct FlagAlias {
  std::string_view alias;
  std::string_view name;
};
constexpr FlagAlias kAliases[] = {
    {"tensor_parallel_size", "tp"},
    {"pipeline_parallel_size", "pp"},
    {"data_parallel_size", "replicas"},
    {"gpu_memory_utilization", "memory_fraction"},
};

bool IsFlag(std::string_view arg) { return arg.size() > 1 && arg[0] == '-' && arg != "--"; }

struct Flag {
  std::string name;
  std::optional<std::string> value;  // what follows "=", if anything does
};

Flag SplitFlag(std::string_view arg) {
  arg.remove_prefix(arg.starts_with("--") ? 2 : 1);
  size_t equals = arg.find('=');
  Flag flag{.name = std::string(arg.substr(0, equals))};
  if (equals != std::string_view::npos) flag.value = std::string(arg.substr(equals + 1));
  std::replace(flag.name.begin(), flag.name.end(), '-', '_');
  for (const FlagAlias& alias : kAliases) {
    if (flag.name == alias.alias) flag.name = std::string(alias.name);
  }
  return flag;
}

std::string AliasOf(std::string_view name) {
  for (const FlagAlias& alias : kAliases) {
    if (name == alias.name) return std::string(alias.alias);
  }
  return "";
}

}  // namespace

absl::StatusOr<std::vector<std::string>> NormalizeFlags(const std::vector<std::string>& args) {
  std::vector<std::string> normalized;
  std::map<std::string, std::string> aliased_values;
  bool only_positional = false;
  for (size_t i = 0; i < args.size(); ++i) {
    only_positional = only_positional || args[i] == "--";
    if (only_positional || !IsFlag(args[i])) {
      normalized.push_back(args[i]);
      continue;
    }
    Flag flag = SplitFlag(args[i]);
    normalized.push_back(flag.value ? absl::StrCat("--", flag.name, "=", *flag.value)
                                    : absl::StrCat("--", flag.name));
    if (std::string alias = AliasOf(flag.name); !alias.empty()) {
      std::string value = flag.value.value_or(i + 1 < args.size() ? args[i + 1] : "");
      auto [it, inserted] = aliased_values.emplace(flag.name, value);
      if (!inserted && it->second != value) {
        std::replace(alias.begin(), alias.end(), '_', '-');
        return absl::InvalidArgumentError(absl::StrCat("--", flag.name, " and --", alias,
                                                       " are one flag, given as ", it->second,
                                                       " and as ", value, "; keep one"));
      }
    }
  }
  return normalized;
}

std::vector<std::string> InitMain(int argc, char** argv, const std::string& usage) {
  // Debian builds Abseil with the detector on: a tenth of what a coordinator spends on a token.
  // Tests keep it.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  FLAGS_logtostderr = true;
  google::InitGoogleLogging(argv[0]);
  google::InstallFailureSignalHandler();
  // The handler takes SIGTERM for a crash.
  signal(SIGTERM, SIG_DFL);
  absl::SetProgramUsageMessage(usage);
  absl::FlagsUsageConfig config;
  config.contains_help_flags = [](absl::string_view file) {
    return !absl::StrContains(file, "absl/");
  };
  absl::SetFlagsUsageConfig(config);

  absl::StatusOr<std::vector<std::string>> args =
      NormalizeFlags(std::vector<std::string>(argv + 1, argv + argc));
  if (!args.ok()) {
    std::cerr << args.status().message() << "\n";
    std::exit(1);
  }
  // Abseil keeps pointers into the arguments.
  static std::vector<std::string>* kept = new std::vector<std::string>(*std::move(args));
  std::vector<char*> pointers = {argv[0]};
  for (std::string& arg : *kept) pointers.push_back(arg.data());
  std::vector<char*> positional =
      absl::ParseCommandLine(static_cast<int>(pointers.size()), pointers.data());
  return {positional.begin() + 1, positional.end()};
}

}  // namespace lockstep
