// "Did you mean": the known names that are closest to one that was asked for.
#ifndef LOCKSTEP_MODEL_NEAR_NAMES_H_
#define LOCKSTEP_MODEL_NEAR_NAMES_H_

#include <string>
#include <string_view>
#include <vector>

namespace lockstep::model {

/// Up to three of `known` within an edit distance (Levenshtein) of a third of `name`'s length, the
/// nearest first, ties in the order of `known`.
std::vector<std::string> NearNames(std::string_view name, const std::vector<std::string>& known);

}  // namespace lockstep::model

#endif  // LOCKSTEP_MODEL_NEAR_NAMES_H_
