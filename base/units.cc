// Parsing and printing of byte counts.
#include "base/units.h"

#include <array>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace lockstep {
namespace {

constexpr std::array kUnitNames = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};

std::optional<double> UnitFactor(const std::string& unit) {
  static constexpr std::pair<std::string_view, double> kUnits[] = {
      {"", 1},         {"b", 1},      {"k", 0x1p10},   {"kib", 0x1p10}, {"m", 0x1p20},
      {"mib", 0x1p20}, {"g", 0x1p30}, {"gib", 0x1p30}, {"t", 0x1p40},   {"tib", 0x1p40},
      {"kb", 1e3},     {"mb", 1e6},   {"gb", 1e9},     {"tb", 1e12},
  };
  for (const auto& [name, factor] : kUnits) {
    if (name == unit) return factor;
  }
  return std::nullopt;
}

}  // namespace

std::string FormatBytes(int64_t bytes) {
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (std::fabs(value) >= 1024 && unit + 1 < kUnitNames.size()) {
    value /= 1024;
    ++unit;
  }
  if (unit == 0) return absl::StrCat(bytes, " B");
  return absl::StrFormat("%.2f %s", value, kUnitNames[unit]);
}

absl::StatusOr<int64_t> ParseBytes(std::string_view text) {
  absl::string_view trimmed = absl::StripAsciiWhitespace({text.data(), text.size()});
  size_t digits = trimmed.find_first_not_of("0123456789.");
  absl::string_view number = trimmed.substr(0, digits);
  absl::string_view unit = digits == absl::string_view::npos ? "" : trimmed.substr(digits);
  std::optional<double> factor =
      UnitFactor(absl::AsciiStrToLower(absl::StripLeadingAsciiWhitespace(unit)));
  int64_t whole = 0;
  if (factor == 1.0 && absl::SimpleAtoi(number, &whole)) return whole;
  double value = 0;
  // 2^63 itself does not fit, and every double below it does.
  if (factor.has_value() && absl::SimpleAtod(number, &value) && value * *factor < 0x1p63) {
    return static_cast<int64_t>(value * *factor);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", absl::string_view(text.data(), text.size()),
                   "\" is not a number of bytes; write 80GiB, 512MB or 1073741824 (below 8 EiB)"));
}

bool AbslParseFlag(absl::string_view text, Bytes* bytes, std::string* error) {
  absl::StatusOr<int64_t> value = ParseBytes({text.data(), text.size()});
  if (value.ok()) {
    bytes->value = *value;
  } else {
    *error = absl::StrCat(value.status().message());
  }
  return value.ok();
}

std::string AbslUnparseFlag(Bytes bytes) { return absl::StrCat(bytes.value); }

}  // namespace lockstep
