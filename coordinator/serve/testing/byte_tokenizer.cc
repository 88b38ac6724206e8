// Writes a tokenizer.json in Hugging Face's format.
#include "coordinator/serve/testing/byte_tokenizer.h"

#include <glog/logging.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "nlohmann/json.hpp"

namespace lockstep::coordinator {
namespace {

using Json = nlohmann::json;

// GPT-2's spelling of a byte: printable Latin-1 stands for itself, the rest for U+0100 and on.
std::string SpellByte(int byte) {
  auto prints = [](int b) {
    return (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
  };
  int code = byte;
  if (!prints(byte)) {
    code = 256;
    for (int before = 0; before < byte; ++before) code += prints(before) ? 0 : 1;
  }
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xc0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3f))};
}

Json SpecialToken(int32_t id, const std::string& content) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

Json TokenizerJson() {
  Json vocabulary;
  for (int byte = 0; byte < 256; ++byte) vocabulary[SpellByte(byte)] = byte;
  const Json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", false}};
  const Json begin = {{"SpecialToken", {{"id", "<begin>"}, {"type_id", 0}}}};
  const Json sequence = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const Json second = {{"Sequence", {{"id", "B"}, {"type_id", 1}}}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", {SpecialToken(kByteBegin, "<begin>"), SpecialToken(kByteEnd, "<end>")}},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor",
           {{"type", "TemplateProcessing"},
            {"single", {begin, sequence}},
            {"pair", {begin, sequence, second}},
            {"special_tokens",
             {{"<begin>", {{"id", "<begin>"}, {"ids", {kByteBegin}}, {"tokens", {"<begin>"}}}}}}}},
          {"decoder", byte_level},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"vocab", vocabulary},
            {"merges", Json::array()}}}};
}

}  // namespace

std::unique_ptr<text::Tokenizer> MakeByteTokenizer() {
  std::string directory = std::filesystem::temp_directory_path() / "byte_tokenizer_XXXXXX";
  CHECK(mkdtemp(directory.data()) != nullptr);
  std::ofstream(directory + "/tokenizer.json") << TokenizerJson();
  absl::StatusOr<std::unique_ptr<text::Tokenizer>> tokenizer = text::Tokenizer::Load(directory);
  std::filesystem::remove_all(directory);
  CHECK(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

}  // namespace lockstep::coordinator
