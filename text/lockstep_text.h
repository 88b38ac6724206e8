// The C ABI of the Rust crate in text/rust: Hugging Face's tokenizers and chat templates.
//
// Internal to text/; others use tokenizer.h, stream_decoder.h and chat_template.h. Every function
// that can fail returns an LtCode: on LT_OK it has written *out, otherwise *error, an owned string.
// Inputs are borrowed for the call. Objects are immutable: any number of threads may use one.
#ifndef LOCKSTEP_TEXT_LOCKSTEP_TEXT_H_
#define LOCKSTEP_TEXT_LOCKSTEP_TEXT_H_

#include <cstddef>
#include <cstdint>

extern "C" {

// How a call ended: fine; the input is at fault; over its budget of work; a defect of the library.
enum LtCode : int { LT_OK = 0, LT_INVALID = 1, LT_EXHAUSTED = 2, LT_PANIC = 3 };

// What a token adds to decoded text: text; one byte of a run that is decoded only as a whole; a
// special token, left out when these are skipped; nothing, since no token has the id.
enum LtTokenKind : int { LT_TEXT = 0, LT_BYTE = 1, LT_SPECIAL = 2, LT_UNKNOWN = 3 };

// Owned by the library until lt_string_free; `data` is null when `size` is 0. UTF-8, no final NUL.
struct LtString {
  uint8_t* data;
  size_t size;
};
void lt_string_free(LtString string);

// Owned by the library until lt_ids_free; `data` is null when `size` is 0.
struct LtIds {
  uint32_t* data;
  size_t size;
};
void lt_ids_free(LtIds ids);

struct LtTokenizer;

// From the text of tokenizer.json and of tokenizer_config.json (size 0: there is none).
LtCode lt_tokenizer_load(const uint8_t* tokenizer_json, size_t tokenizer_json_size,
                         const uint8_t* config_json, size_t config_json_size, LtTokenizer** out,
                         LtString* error);
void lt_tokenizer_free(LtTokenizer* tokenizer);
LtCode lt_tokenizer_encode(const LtTokenizer* tokenizer, const uint8_t* text, size_t text_size,
                           bool add_special_tokens, LtIds* out, LtString* error);
LtCode lt_tokenizer_decode(const LtTokenizer* tokenizer, const uint32_t* ids, size_t ids_size,
                           bool skip_special_tokens, LtString* out, LtString* error);
LtCode lt_tokenizer_vocab_size(const LtTokenizer* tokenizer, size_t* out, LtString* error);
// -1 when no token reads exactly so.
LtCode lt_tokenizer_token_to_id(const LtTokenizer* tokenizer, const uint8_t* token,
                                size_t token_size, int64_t* out, LtString* error);

// What the ids 0, 1, ... add to decoded text: a byte with the LtTokenKind of each; and, where the
// decoder does nothing but put together the bytes that tokens spell, these bytes, one id's after
// the other's, and where each id's end. Otherwise `bytes` and `ends` are empty.
struct LtTokenTable {
  LtString kinds;
  LtString bytes;
  LtIds ends;
};
LtCode lt_tokenizer_table(const LtTokenizer* tokenizer, LtTokenTable* out, LtString* error);

struct LtChatTemplate;

// `special_tokens_json`: a JSON object of variables for every render (size 0: none).
LtCode lt_chat_template_compile(const uint8_t* source, size_t source_size,
                                const uint8_t* special_tokens_json, size_t special_tokens_json_size,
                                LtChatTemplate** out, LtString* error);
void lt_chat_template_free(LtChatTemplate* chat_template);
// `messages_json`: a JSON list; `kwargs_json`: a JSON object of further variables (size 0: none).
LtCode lt_chat_template_render(const LtChatTemplate* chat_template, const uint8_t* messages_json,
                               size_t messages_json_size, bool add_generation_prompt,
                               const uint8_t* kwargs_json, size_t kwargs_json_size, LtString* out,
                               LtString* error);

}  // extern "C"

#endif  // LOCKSTEP_TEXT_LOCKSTEP_TEXT_H_
