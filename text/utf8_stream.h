// Characters from bytes as they come, with U+FFFD for what spells none: the same as decoding all
// bytes at once, the way that Unicode recommends and Rust's from_utf8_lossy does.
#ifndef LOCKSTEP_TEXT_UTF8_STREAM_H_
#define LOCKSTEP_TEXT_UTF8_STREAM_H_

#include <string>
#include <string_view>

namespace lockstep::text {

// Not thread-safe.
class Utf8Stream {
 public:
  // The characters that are complete with `bytes`. One U+FFFD stands for each longest part that
  // could have begun a character (The Unicode Standard, 3.9, "Substitution of Maximal Subparts").
  std::string Push(std::string_view bytes);

  // U+FFFD for a character that was begun; the stream is then as new.
  std::string Flush();

 private:
  std::string begun_;  // at most three bytes
};

}  // namespace lockstep::text

#endif  // LOCKSTEP_TEXT_UTF8_STREAM_H_
