// Edit distance by the usual two-row dynamic programme.
#include "model/near_names.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace lockstep::model {
namespace {

constexpr size_t kMaxNames = 3;
constexpr size_t kMaxLength = 256;  // longer names are not worth the quadratic time

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, diagonal + 1, row[j] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::vector<std::string> NearNames(std::string_view name, const std::vector<std::string>& known) {
  std::vector<std::pair<size_t, size_t>> near;  // distance, index
  if (name.size() > kMaxLength) return {};
  for (size_t i = 0; i < known.size(); ++i) {
    if (known[i].size() > kMaxLength) continue;
    size_t distance = EditDistance(name, known[i]);
    if (distance <= name.size() / 3) near.emplace_back(distance, i);
  }
  std::sort(near.begin(), near.end());
  if (near.size() > kMaxNames) near.resize(kMaxNames);
  std::vector<std::string> names;
  for (const auto& [distance, index] : near) names.push_back(known[index]);
  return names;
}

}  // namespace lockstep::model
