// The text of one output as its tokens come: decoded, and cut at a stop string.
//
// Invariant: the pieces of all calls, put together, are the text of all tokens, cut before (or, if
// asked for, behind) the stop string that is complete first in it; and no piece ends inside a UTF-8
// character. What may be the beginning of a stop string is held until it is known not to be.
#ifndef LOCKSTEP_COORDINATOR_SERVE_TEXT_OUTPUT_H_
#define LOCKSTEP_COORDINATOR_SERVE_TEXT_OUTPUT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "proto/lockstep/v1/inference.pb.h"
#include "text/stream_decoder.h"
#include "text/tokenizer.h"

namespace lockstep::coordinator {

/// How tokens become text; the same for all choices of a request.
struct TextOptions {
  bool skip_special_tokens = true;
  std::vector<std::string> stop;  // none of them empty
  bool include_stop_in_output = false;
  // Stop strings are looked for in the text of later tokens only.
  int64_t min_tokens = 0;
};

/// Of a request that CheckGenerateRequest accepts.
TextOptions TextOptionsOf(const v1::GenerateRequest& request);

/// Not thread-safe.
class TextOutput {
 public:
  /// Both must outlive it.
  TextOutput(const text::Tokenizer& tokenizer, const TextOptions& options);

  /// Appends the text that `token_id` settles to `out`; nothing once a stop string was found.
  void Push(int32_t token_id, std::string& out);

  /// No token follows: appends what was held. The decoder is then as new.
  void Flush(std::string& out);

  /// The stop string that was found, if any was.
  const std::optional<std::string>& stopped_by() const { return stopped_by_; }

 private:
  /// Looks for stop strings in the held text and `piece`, and appends what is settled.
  void AppendUntilStop(std::string_view piece, std::string& out);
  /// Length of the longest end of held_ that a stop string begins with, but is not whole.
  size_t PossibleStopBytes() const;

  const TextOptions& options_;
  text::StreamDecoder decoder_;
  int64_t tokens_ = 0;
  std::string held_;
  std::optional<std::string> stopped_by_;
};

}  // namespace lockstep::coordinator

#endif  // LOCKSTEP_COORDINATOR_SERVE_TEXT_OUTPUT_H_
