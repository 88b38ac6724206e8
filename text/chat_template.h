// Chat messages to the prompt text that a model was trained on, by the model's own Jinja template,
// in the environment that Transformers' apply_chat_template gives it: trimmed blocks, loop
// controls, Python's string and dict methods, tojson, raise_exception, strftime_now, {% generation
// %}.
#ifndef LOCKSTEP_TEXT_CHAT_TEMPLATE_H_
#define LOCKSTEP_TEXT_CHAT_TEMPLATE_H_

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "text/lockstep_text.h"

namespace lockstep::text {

// Immutable after Load; Render may be called from any number of threads at once.
class ChatTemplate {
 public:
  // Compiles every template of `model_dir` (see tokenizer_config.h for where they are looked for).
  // NotFound when there is none; InvalidArgument, with template and line, when one does not
  // compile.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> Load(const std::filesystem::path& model_dir);

  ~ChatTemplate();
  ChatTemplate(const ChatTemplate&) = delete;
  ChatTemplate& operator=(const ChatTemplate&) = delete;

  // The prompt for `messages_json`, a JSON list of {"role", "content", ...}. `kwargs_json`, empty
  // or a JSON object, adds variables: "tools", "documents", "enable_thinking", or another value for
  // "bos_token". Encode the result with add_special_tokens = false.
  //
  // `name` picks one of several templates; empty takes "tool_use", where that exists and the kwargs
  // bring tools, and otherwise "default". InvalidArgument when a JSON is malformed, or the template
  // raises (with its words) or fails; NotFound for an unknown name; ResourceExhausted when it
  // does not end within a fixed budget, which also bounds its memory to some 300 MB.
  absl::StatusOr<std::string> Render(std::string_view messages_json, bool add_generation_prompt,
                                     std::string_view kwargs_json = {},
                                     std::string_view name = {}) const;

 private:
  struct Free {
    void operator()(LtChatTemplate* handle) const { lt_chat_template_free(handle); }
  };
  using Templates = std::map<std::string, std::unique_ptr<LtChatTemplate, Free>, std::less<>>;

  explicit ChatTemplate(Templates templates);

  absl::StatusOr<const LtChatTemplate*> Pick(std::string_view name,
                                             std::string_view kwargs_json) const;

  const Templates templates_;
};

}  // namespace lockstep::text

#endif  // LOCKSTEP_TEXT_CHAT_TEMPLATE_H_
