// Text to token ids and back, by Hugging Face's own tokenizers library, so that ids are those that
// Transformers would give.
//
// Any tokenizer.json is read: byte-level BPE (GPT-2, Llama-3, Qwen), sentencepiece's BPE and
// Unigram as converted (Llama-2, Gemma, T5), WordPiece. Truncation and padding that the file asks
// for are off. Decode() cleans up nothing: what the tokens spell is what comes out.
#ifndef LOCKSTEP_TEXT_TOKENIZER_H_
#define LOCKSTEP_TEXT_TOKENIZER_H_

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "text/lockstep_text.h"
#include "text/tokenizer_config.h"

namespace lockstep::text {

// What one token adds to decoded text.
enum class TokenKind {
  kText,
  // One byte of a run of "<0xHH>" tokens, which is decoded only as a whole.
  kByte,
  // A special token: left out when special tokens are skipped.
  kSpecial,
  // No token has this id (a model's vocabulary may be padded): decodes to nothing.
  kUnknown,
};

// Immutable after Load; every method may be called from any number of threads at once. None blocks
// beyond its own computing.
class Tokenizer {
 public:
  // Reads tokenizer.json of `model_dir`, with the special tokens of tokenizer_config.json and
  // special_tokens_map.json where these exist. NotFound without tokenizer.json; InvalidArgument,
  // naming file and reason, when one of them is malformed.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::filesystem::path& model_dir);

  // A tokenizer without tokens, for weights that mean nothing: no text has ids, and every id
  // decodes to nothing.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Empty();

  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // The ids of `utf8`. Special tokens spelt out in the text become their ids, as in Transformers.
  // `add_special_tokens` applies the file's post-processor (typically a leading <s>); pass false
  // for what a chat template rendered, which brings its own. InvalidArgument when not valid UTF-8.
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view utf8, bool add_special_tokens) const;

  // The text of `ids`, always valid UTF-8: bytes that spell no character become U+FFFD. Ids without
  // a token decode to nothing. InvalidArgument for a negative id. For text as it is generated use
  // StreamDecoder.
  absl::StatusOr<std::string> Decode(std::span<const int32_t> ids, bool skip_special_tokens) const;

  // How many tokens there are, added ones included; ids may have gaps, and the model's own
  // vocabulary may be larger.
  int vocab_size() const { return vocab_size_; }

  // The id of the token that reads exactly so, as the vocabulary writes it ("Ġthe", "▁the").
  std::optional<int32_t> TokenId(std::string_view token) const;

  // See TokenKind; negative ids are kUnknown.
  TokenKind Kind(int32_t id) const;

  // Whether decoding is nothing but putting together the bytes that the tokens spell, as with
  // byte-level BPE.
  bool spells_bytes() const { return !byte_ends_.empty(); }

  // The bytes of a token of such a tokenizer, possibly a part of a character; none where no token
  // has the id. Lives as long as the tokenizer.
  std::string_view SpelledBytes(int32_t id) const;

  // By the names of tokenizer_config.json; nullopt where it names none or the token has no id.
  std::optional<int32_t> bos_id() const { return SpecialTokenId("bos_token"); }
  std::optional<int32_t> eos_id() const { return SpecialTokenId("eos_token"); }
  std::optional<int32_t> pad_id() const { return SpecialTokenId("pad_token"); }

 private:
  // `source` names the text's origin in errors.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Parse(std::string_view json,
                                                          TokenizerConfig config,
                                                          std::string_view source);

  Tokenizer(LtTokenizer* handle, int vocab_size, TokenizerConfig config, const LtTokenTable& table);

  std::optional<int32_t> SpecialTokenId(const std::string& name) const;

  LtTokenizer* const handle_;  // Owned.
  const int vocab_size_;
  const TokenizerConfig config_;
  // By id; see LtTokenTable.
  const std::string kinds_;
  const std::string bytes_;
  const std::vector<uint32_t> byte_ends_;
};

}  // namespace lockstep::text

#endif  // LOCKSTEP_TEXT_TOKENIZER_H_
