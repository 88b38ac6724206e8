// Tokens that spell bytes need no more than whole characters. For the others, incremental
// detokenization by two offsets into a window of ids: decode the window with and
// without the new ones, and what is longer is new.
#include "text/stream_decoder.h"

#include <span>
#include <string_view>
#include <utility>

#include "base/status_macros.h"

namespace lockstep::text {
namespace {

// U+FFFD: what a decoder writes for bytes that spell no character, or none yet.
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

}  // namespace

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens)
    : tokenizer_(tokenizer), skip_special_tokens_(skip_special_tokens) {}

absl::StatusOr<std::string> StreamDecoder::Push(int32_t id) {
  if (!tokenizer_.spells_bytes() || id < 0) return PushToWindow(id);
  if (skip_special_tokens_ && tokenizer_.Kind(id) == TokenKind::kSpecial) return std::string();
  return characters_.Push(tokenizer_.SpelledBytes(id));
}

std::string StreamDecoder::Flush() {
  return tokenizer_.spells_bytes() ? characters_.Flush() : FlushWindow();
}

absl::StatusOr<std::string> StreamDecoder::PushToWindow(int32_t id) {
  const TokenKind kind = tokenizer_.Kind(id);
  ids_.push_back(id);
  absl::StatusOr<std::string> text = tokenizer_.Decode(ids_, skip_special_tokens_);
  if (!text.ok()) {
    ids_.pop_back();
    return text.status();
  }
  // A token that is left out neither ends a run of bytes nor begins one.
  const bool left_out =
      kind == TokenKind::kUnknown || (kind == TokenKind::kSpecial && skip_special_tokens_);
  if (!left_out) in_byte_run_ = kind == TokenKind::kByte;
  if (MayChange(*text)) return std::string();

  std::string piece = text->substr(context_text_.size());
  ids_.erase(ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(settled_));
  settled_ = ids_.size();
  LOCKSTEP_ASSIGN_OR_RETURN(context_text_, tokenizer_.Decode(ids_, skip_special_tokens_));
  return piece;
}

bool StreamDecoder::MayChange(const std::string& text) const {
  if (in_byte_run_ || text.ends_with(kReplacement)) return true;
  // The window moves only past ids that add text, so that the context is never an empty one.
  return text.size() <= context_text_.size() || !text.starts_with(context_text_);
}

std::string StreamDecoder::FlushWindow() {
  const absl::StatusOr<std::string> text = tokenizer_.Decode(ids_, skip_special_tokens_);
  std::string piece;
  if (text.ok() && text->size() > context_text_.size()) piece = text->substr(context_text_.size());
  ids_.clear();
  settled_ = 0;
  context_text_.clear();
  in_byte_run_ = false;
  return piece;
}

}  // namespace lockstep::text
