// Well-formed sequences by The Unicode Standard, table 3-7.
#include "text/utf8_stream.h"

#include <cstddef>
#include <cstdint>

namespace lockstep::text {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// What may follow a first byte: how many bytes, and the range of the next one.
struct Sequence {
  size_t length;  // 0 for no first byte
  uint8_t least_second;
  uint8_t most_second;
};

Sequence SequenceOf(uint8_t first) {
  if (first < 0x80) return {1, 0, 0};
  if (first < 0xC2 || first > 0xF4) return {0, 0, 0};
  if (first < 0xE0) return {2, 0x80, 0xBF};
  if (first < 0xF0) {
    return {3, static_cast<uint8_t>(first == 0xE0 ? 0xA0 : 0x80),
            static_cast<uint8_t>(first == 0xED ? 0x9F : 0xBF)};
  }
  return {4, static_cast<uint8_t>(first == 0xF0 ? 0x90 : 0x80),
          static_cast<uint8_t>(first == 0xF4 ? 0x8F : 0xBF)};
}

// How many of the first bytes of `bytes`, which is not empty, belong to one character as far as
// they go; 0 when the first begins none. `whole` tells whether they are all of it.
size_t CharacterPrefix(std::string_view bytes, bool& whole) {
  const Sequence sequence = SequenceOf(static_cast<uint8_t>(bytes[0]));
  size_t length = sequence.length == 0 ? 0 : 1;
  while (length < sequence.length && length < bytes.size()) {
    const auto byte = static_cast<uint8_t>(bytes[length]);
    const uint8_t least = length == 1 ? sequence.least_second : 0x80;
    const uint8_t most = length == 1 ? sequence.most_second : 0xBF;
    if (byte < least || byte > most) break;
    ++length;
  }
  whole = sequence.length != 0 && length == sequence.length;
  return length;
}

}  // namespace

std::string Utf8Stream::Push(std::string_view bytes) {
  std::string joined;
  if (!begun_.empty()) {
    joined = begun_.append(bytes);
    begun_.clear();
    bytes = joined;
  }
  std::string characters;
  while (!bytes.empty()) {
    bool whole = false;
    const size_t length = CharacterPrefix(bytes, whole);
    if (whole) {
      characters += bytes.substr(0, length);
    } else if (length == bytes.size()) {
      begun_ = bytes;
      break;
    } else {
      characters += kReplacement;
    }
    bytes.remove_prefix(length == 0 ? 1 : length);
  }
  return characters;
}

std::string Utf8Stream::Flush() {
  if (begun_.empty()) return std::string();
  begun_.clear();
  return std::string(kReplacement);
}

}  // namespace lockstep::text
