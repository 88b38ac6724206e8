// What every main() of ours does first: flags as users type them (--max-model-len, the other names
// of --tp and --pp), Abseil's parser, glog on stderr.
#ifndef LOCKSTEP_BASE_FLAGS_MAIN_H_
#define LOCKSTEP_BASE_FLAGS_MAIN_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace lockstep {

/// Rewrites the arguments after argv[0] into the names that Abseil knows: dashes inside a flag's
/// name become underscores, and --tensor-parallel-size and --pipeline-parallel-size become --tp and
/// --pp. Values, positional arguments and everything after "--" stay as they are. InvalidArgument
/// if a flag with two names is given twice with different values.
absl::StatusOr<std::vector<std::string>> NormalizeFlags(const std::vector<std::string>& args);

/// Sets up glog, then NormalizeFlags and absl::ParseCommandLine; returns the positional arguments
/// without the program's name. A wrong flag ends the process with status 1 and a message; --help
/// prints `usage` and the flags of this project. Call once, from main().
std::vector<std::string> InitMain(int argc, char** argv, const std::string& usage);

}  // namespace lockstep

#endif  // LOCKSTEP_BASE_FLAGS_MAIN_H_
