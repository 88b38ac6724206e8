// Byte counts as people write and read them, in flags and messages.
#ifndef LOCKSTEP_BASE_UNITS_H_
#define LOCKSTEP_BASE_UNITS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace lockstep {

/// "1.24 GiB", "512 B", "-3.00 MiB": the largest binary unit up to PiB with a whole part, two
/// decimals above bytes.
std::string FormatBytes(int64_t bytes);

/// "80GiB", "1.5 GiB", "512MB", "1073741824": a number that is not negative and a unit, of any
/// case: none or B, KiB, MiB, GiB, TiB (powers of 1024; K, M, G, T are the same) or kB, MB, GB, TB
/// (powers of 1000). A fraction of a byte is dropped. InvalidArgument says what is accepted.
absl::StatusOr<int64_t> ParseBytes(std::string_view text);

/// A flag's value: ABSL_FLAG(Bytes, device_memory, Bytes{}, "...").
struct Bytes {
  int64_t value = 0;
};
bool AbslParseFlag(absl::string_view text, Bytes* bytes, std::string* error);
std::string AbslUnparseFlag(Bytes bytes);

}  // namespace lockstep

#endif  // LOCKSTEP_BASE_UNITS_H_
