// What Lockstep reads from tokenizer_config.json and the chat_template.jinja beside it: the special
// tokens by name, and the chat template's source. Pure reading; nothing is compiled here.
#ifndef LOCKSTEP_TEXT_TOKENIZER_CONFIG_H_
#define LOCKSTEP_TEXT_TOKENIZER_CONFIG_H_

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

namespace lockstep::text {

struct TokenizerConfig {
  // The file's text; empty when there is no tokenizer_config.json.
  std::string json;
  // By name, as "bos_token", "eos_token", "pad_token"; those that the file sets to null are absent.
  std::map<std::string, std::string> special_tokens;
  // By name; the one that is used unless a request says otherwise is "default".
  std::map<std::string, std::string> chat_templates;
};

// Reads `model_dir`/tokenizer_config.json, and special_tokens_map.json for the names that it leaves
// out. Templates come, later ones replacing earlier ones, from its "chat_template" (a string, or a
// list of {"name", "template"}), from chat_template.jinja, and from additional_chat_templates/.
// Missing files are no error. InvalidArgument for malformed ones, with the file and the place.
absl::StatusOr<TokenizerConfig> ReadTokenizerConfig(const std::filesystem::path& model_dir);

}  // namespace lockstep::text

#endif  // LOCKSTEP_TEXT_TOKENIZER_CONFIG_H_
