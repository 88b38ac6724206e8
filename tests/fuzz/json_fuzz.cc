// The JSON front: any body, as each of the calls that take one, and on to the check of requests.
#include <glog/logging.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "coordinator/http/json_body.h"
#include "coordinator/http/openai_request.h"
#include "coordinator/serve/request_check.h"
#include "coordinator/serve/testing/byte_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lockstep::coordinator;  // NOLINT(google-build-using-namespace)
  static const auto& tokenizer = *MakeByteTokenizer().release();
  static const auto& model =
      *new ServedModel{.name = "bytes", .context_tokens = 1024, .vocab_size = kByteVocabulary};
  const auto body = ParseJsonObject({reinterpret_cast<const char*>(data), size});
  if (!body.ok()) {
    CHECK(!body.status().message().empty());
    return 0;
  }
  const auto completion = ParseCompletionCall(*body);
  if (completion.ok()) {
    CHECK(!completion->generations.empty());
    for (const auto& generation : completion->generations) {
      const auto checked = CheckGenerateRequest(generation, model, tokenizer);
      if (!checked.ok()) continue;
      CHECK_GE(checked->max_tokens, 1);
      CHECK_LE(static_cast<int64_t>(checked->prompt.size()) + checked->max_tokens,
               model.context_tokens);
    }
  }
  const auto chat = ParseChatCall(*body);
  if (chat.ok()) CHECK_GT(chat->chat.messages_size(), 0);
  (void)ParseTokenizeCall(*body);
  (void)ParseDetokenizeCall(*body);
  return 0;
}
