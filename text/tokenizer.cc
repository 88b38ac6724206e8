// Tokenizer over the C ABI of text/rust.
#include "text/tokenizer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "text/abi.h"

namespace lockstep::text {
namespace {

constexpr std::string_view kEmptyTokenizerJson =
    R"({"version": "1.0", "model": {"type": "WordLevel", "vocab": {}, "unk_token": "<unk>"}})";

// A folder that has only another program's tokenizer deserves to be told so.
absl::Status WithoutTokenizerJson(const std::filesystem::path& model_dir) {
  std::string message = absl::StrCat(
      model_dir.string(), " has no tokenizer.json, the only form of tokenizer that is read");
  for (const char* other : {"tokenizer.model", "vocab.json", "vocab.txt", "tekken.json"}) {
    std::error_code error;
    if (std::filesystem::exists(model_dir / other, error)) {
      absl::StrAppend(&message, "; it has ", other,
                      ": load it once with Transformers' AutoTokenizer and call save_pretrained()");
      break;
    }
  }
  return absl::NotFoundError(message);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::filesystem::path& model_dir) {
  const std::filesystem::path path = model_dir / "tokenizer.json";
  const absl::StatusOr<std::string> json = ReadTextFile(path);
  if (absl::IsNotFound(json.status())) return WithoutTokenizerJson(model_dir);
  LOCKSTEP_RETURN_IF_ERROR(json.status());
  LOCKSTEP_ASSIGN_OR_RETURN(TokenizerConfig config, ReadTokenizerConfig(model_dir));
  return Parse(*json, std::move(config), path.string());
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Empty() {
  return Parse(kEmptyTokenizerJson, {}, "the empty tokenizer");
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Parse(std::string_view json,
                                                            TokenizerConfig config,
                                                            std::string_view source) {
  const std::string name(source);
  LtTokenizer* handle = nullptr;
  LtString error;
  const LtCode loaded = lt_tokenizer_load(Bytes(json), json.size(), Bytes(config.json),
                                          config.json.size(), &handle, &error);
  if (loaded != LT_OK) {
    return TakeError(loaded, error, absl::StrCat(name, " is not a usable tokenizer"));
  }
  size_t vocab_size = 0;
  const LtCode counted = lt_tokenizer_vocab_size(handle, &vocab_size, &error);
  if (counted != LT_OK) {
    lt_tokenizer_free(handle);
    return TakeError(counted, error, name);
  }
  LtTokenTable table;
  const LtCode listed = lt_tokenizer_table(handle, &table, &error);
  if (listed != LT_OK) {
    lt_tokenizer_free(handle);
    return TakeError(listed, error, name);
  }
  std::unique_ptr<Tokenizer> tokenizer(
      new Tokenizer(handle, static_cast<int>(vocab_size), std::move(config), table));
  lt_ids_free(table.ends);
  return tokenizer;
}

Tokenizer::Tokenizer(LtTokenizer* handle, int vocab_size, TokenizerConfig config,
                     const LtTokenTable& table)
    : handle_(handle),
      vocab_size_(vocab_size),
      config_(std::move(config)),
      kinds_(TakeString(table.kinds)),
      bytes_(TakeString(table.bytes)),
      byte_ends_(table.ends.data, table.ends.data + table.ends.size) {}

Tokenizer::~Tokenizer() { lt_tokenizer_free(handle_); }

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(std::string_view utf8,
                                                       bool add_special_tokens) const {
  LtIds ids;
  LtString error;
  const LtCode code =
      lt_tokenizer_encode(handle_, Bytes(utf8), utf8.size(), add_special_tokens, &ids, &error);
  if (code != LT_OK) return TakeError(code, error, "cannot tokenize");
  std::vector<int32_t> result(ids.data, ids.data + ids.size);
  lt_ids_free(ids);
  return result;
}

absl::StatusOr<std::string> Tokenizer::Decode(std::span<const int32_t> ids,
                                              bool skip_special_tokens) const {
  const auto negative = std::find_if(ids.begin(), ids.end(), [](int32_t id) { return id < 0; });
  if (negative != ids.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot detokenize: id ", *negative, " at place ", negative - ids.begin(),
                     " is negative; ids go from 0 to ", vocab_size_ - 1));
  }
  LtString text;
  LtString error;
  const LtCode code = lt_tokenizer_decode(handle_, reinterpret_cast<const uint32_t*>(ids.data()),
                                          ids.size(), skip_special_tokens, &text, &error);
  if (code != LT_OK) return TakeError(code, error, "cannot detokenize");
  return TakeString(text);
}

std::optional<int32_t> Tokenizer::TokenId(std::string_view token) const {
  int64_t id = -1;
  LtString error;
  if (lt_tokenizer_token_to_id(handle_, Bytes(token), token.size(), &id, &error) != LT_OK) {
    lt_string_free(error);
    return std::nullopt;
  }
  if (id < 0) return std::nullopt;
  return static_cast<int32_t>(id);
}

TokenKind Tokenizer::Kind(int32_t id) const {
  if (id < 0 || static_cast<size_t>(id) >= kinds_.size()) return TokenKind::kUnknown;
  switch (static_cast<LtTokenKind>(kinds_[id])) {
    case LT_TEXT:
      return TokenKind::kText;
    case LT_BYTE:
      return TokenKind::kByte;
    case LT_SPECIAL:
      return TokenKind::kSpecial;
    case LT_UNKNOWN:
      break;
  }
  return TokenKind::kUnknown;
}

std::string_view Tokenizer::SpelledBytes(int32_t id) const {
  if (id < 0 || static_cast<size_t>(id) >= byte_ends_.size()) return {};
  const uint32_t begin = id == 0 ? 0 : byte_ends_[id - 1];
  return std::string_view(bytes_).substr(begin, byte_ends_[id] - begin);
}

std::optional<int32_t> Tokenizer::SpecialTokenId(const std::string& name) const {
  const auto token = config_.special_tokens.find(name);
  if (token == config_.special_tokens.end()) return std::nullopt;
  return TokenId(token->second);
}

}  // namespace lockstep::text
