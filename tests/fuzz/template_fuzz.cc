// The boundary to chat templates: a template and messages, with a line "---" between them.
#include <glog/logging.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "text/abi.h"
#include "text/lockstep_text.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using lockstep::text::Bytes;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t border = input.find("\n---\n");
  const std::string_view source = input.substr(0, border);
  const std::string_view messages =
      border == std::string_view::npos ? std::string_view("[]") : input.substr(border + 5);
  LtChatTemplate* handle = nullptr;
  LtString out;
  LtString error;
  if (lt_chat_template_compile(Bytes(source), source.size(), nullptr, 0, &handle, &error) !=
      LT_OK) {
    CHECK_GT(error.size, 0U);
    lt_string_free(error);
    return 0;
  }
  const LtCode code =
      lt_chat_template_render(handle, Bytes(messages), messages.size(),
                              /*add_generation_prompt=*/true, nullptr, 0, &out, &error);
  CHECK(code != LT_PANIC) << lockstep::text::TakeString(error);
  lt_string_free(code == LT_OK ? out : error);
  lt_chat_template_free(handle);
  return 0;
}
