// The boundary to the tokenizer: the first byte chooses one, the rest is a text, and then ids.
#include <glog/logging.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "text/stream_decoder.h"
#include "text/testing.h"
#include "text/tokenizer.h"

namespace {

using lockstep::text::Tokenizer;

const Tokenizer& Choose(uint8_t byte) {
  static const auto& tokenizers = *[] {
    auto* loaded = new std::vector<std::unique_ptr<Tokenizer>>;
    for (const std::string& family : lockstep::text::kFamilies) {
      loaded->push_back(lockstep::text::LoadTestTokenizer(family));
    }
    return loaded;
  }();
  return *tokenizers[byte % tokenizers.size()];
}

/// Streamed, ids spell what they spell at once.
void CheckDecoding(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  lockstep::text::StreamDecoder decoder(tokenizer, /*skip_special_tokens=*/true);
  std::string streamed;
  for (const int32_t id : ids) {
    const auto piece = decoder.Push(id);
    if (!piece.ok()) return;
    streamed += *piece;
  }
  streamed += decoder.Flush();
  const auto text = tokenizer.Decode(ids, /*skip_special_tokens=*/true);
  CHECK(text.ok()) << text.status();
  CHECK_EQ(streamed, *text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const Tokenizer& tokenizer = Choose(data[0]);
  const auto ids = tokenizer.Encode({reinterpret_cast<const char*>(data) + 1, size - 1}, true);
  if (ids.ok()) CheckDecoding(tokenizer, *ids);
  std::vector<int32_t> any;
  for (size_t i = 1; i < size; i += 2) {
    any.push_back(data[i] | (i + 1 < size ? data[i + 1] : 0) << 8);
  }
  CheckDecoding(tokenizer, any);
  return 0;
}
