// Text from token ids as they come, one at a time.
//
// Invariant: the concatenation of all pieces, Flush() included, is what Tokenizer::Decode gives for
// all ids at once, and no piece ends inside a UTF-8 character. Pieces that would have to be taken
// back are therefore held: an unfinished character, and a run of "<0xHH>" byte tokens, which the
// tokenizer decodes only as a whole.
#ifndef LOCKSTEP_TEXT_STREAM_DECODER_H_
#define LOCKSTEP_TEXT_STREAM_DECODER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "text/tokenizer.h"
#include "text/utf8_stream.h"

namespace lockstep::text {

// One per generated sequence; not thread-safe. Where tokens spell bytes these are put together;
// otherwise each Push decodes a window of a few ids.
class StreamDecoder {
 public:
  // `tokenizer` must outlive the decoder.
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens);

  // The text that `id` settles, possibly none. InvalidArgument for a negative id, which is ignored.
  absl::StatusOr<std::string> Push(int32_t id);

  // The text still held, with U+FFFD for what spells no character. The decoder is then as new.
  std::string Flush();

 private:
  absl::StatusOr<std::string> PushToWindow(int32_t id);
  std::string FlushWindow();
  // Whether text so far may still be changed by the next id.
  bool MayChange(const std::string& text) const;

  const Tokenizer& tokenizer_;
  const bool skip_special_tokens_;
  Utf8Stream characters_;
  // The window: ids_[0, settled_) are out already and kept as context, since a tokenizer treats the
  // first token of a text specially; they spell context_text_.
  std::vector<int32_t> ids_;
  size_t settled_ = 0;
  std::string context_text_;
  bool in_byte_run_ = false;
};

}  // namespace lockstep::text

#endif  // LOCKSTEP_TEXT_STREAM_DECODER_H_
