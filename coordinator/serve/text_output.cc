// Stop strings are compared as bytes: all of them and the text are whole UTF-8, so that a match
// begins and ends between characters.
#include "coordinator/serve/text_output.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "absl/status/statusor.h"

namespace lockstep::coordinator {

TextOptions TextOptionsOf(const v1::GenerateRequest& request) {
  return {
      .skip_special_tokens = !request.has_skip_special_tokens() || request.skip_special_tokens(),
      .stop = {request.stop().begin(), request.stop().end()},
      .include_stop_in_output = request.include_stop_in_output(),
      .min_tokens = request.sampling().min_tokens()};
}

TextOutput::TextOutput(const text::Tokenizer& tokenizer, const TextOptions& options)
    : options_(options), decoder_(tokenizer, options.skip_special_tokens) {}

void TextOutput::Push(int32_t token_id, std::string& out) {
  if (stopped_by_) return;
  const absl::StatusOr<std::string> piece = decoder_.Push(token_id);
  if (!piece.ok()) {
    LOG(ERROR) << "a token that spells no text: " << piece.status();
    return;
  }
  if (options_.stop.empty() || ++tokens_ <= options_.min_tokens) {
    out += *piece;
  } else {
    AppendUntilStop(*piece, out);
  }
}

void TextOutput::Flush(std::string& out) {
  const std::string rest = decoder_.Flush();
  if (stopped_by_) return;
  if (options_.stop.empty() || tokens_ <= options_.min_tokens) {
    out += rest;
    return;
  }
  AppendUntilStop(rest, out);
  if (stopped_by_) return;
  out += held_;
  held_.clear();
}

void TextOutput::AppendUntilStop(std::string_view piece, std::string& out) {
  if (piece.empty()) return;
  held_ += piece;
  // By end and begin of the match: the first to be complete wins, however the text is cut into
  // tokens; of several, the longest.
  std::pair<size_t, size_t> first = {std::string::npos, 0};
  for (const std::string& stop : options_.stop) {
    const size_t begin = held_.find(stop);
    if (begin == std::string::npos) continue;
    const std::pair<size_t, size_t> match = {begin + stop.size(), begin};
    if (match >= first) continue;
    first = match;
    stopped_by_ = stop;
  }
  if (stopped_by_) {
    out.append(held_, 0, options_.include_stop_in_output ? first.first : first.second);
    held_.clear();
    return;
  }
  const size_t settled = held_.size() - PossibleStopBytes();
  out.append(held_, 0, settled);
  held_.erase(0, settled);
}

size_t TextOutput::PossibleStopBytes() const {
  size_t longest = 0;
  for (const std::string_view stop : options_.stop) {
    size_t length = std::min(stop.size() - 1, held_.size());
    while (length > longest && !held_.ends_with(stop.substr(0, length))) --length;
    longest = std::max(longest, length);
  }
  return longest;
}

}  // namespace lockstep::coordinator
