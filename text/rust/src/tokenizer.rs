//! Loading, encoding and decoding with Hugging Face's `tokenizers`, as Transformers does it:
//! truncation and padding off, added tokens of `tokenizer_config.json` included.

use crate::abi::{catching, guarded, guarded_drop, utf8, Code, Failure, LtIds, LtString};
use serde::de::IgnoredAny;
use serde_json::Value as Json;
use tokenizers::{AddedToken, DecoderWrapper, Tokenizer};

/// A loaded tokenizer; immutable, so that any number of threads may use it at once.
pub struct LtTokenizer {
    tokenizer: Tokenizer,
    /// Whether the decoder joins `<0xHH>` tokens to UTF-8, which it does for a whole run at once.
    byte_fallback: bool,
    /// Whether the decoder does nothing but put the bytes together that the tokens spell.
    byte_level: bool,
}

/// What a token contributes to decoded text. The numbers are part of the ABI.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Adds text.
    Text = 0,
    /// One byte of a run that is decoded only as a whole.
    Byte = 1,
    /// A special token: left out when special tokens are skipped.
    Special = 2,
    /// No token has this id: it decodes to nothing.
    Unknown = 3,
}

impl LtTokenizer {
    fn load(tokenizer_json: &str, config_json: &str) -> Result<Self, Failure> {
        let mut tokenizer = parse(tokenizer_json)?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(Failure::invalid)?;
        if !config_json.is_empty() {
            let config = serde_json::from_str(config_json).map_err(Failure::invalid)?;
            add_configured_tokens(&mut tokenizer, &config)?;
        }
        let byte_fallback = tokenizer.get_decoder().is_some_and(has_byte_fallback);
        let byte_level = matches!(tokenizer.get_decoder(), Some(DecoderWrapper::ByteLevel(_)));
        Ok(LtTokenizer { tokenizer, byte_fallback, byte_level })
    }

    fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, Failure> {
        let encoding =
            self.tokenizer.encode_fast(text, add_special_tokens).map_err(Failure::invalid)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// What the ids 0, 1, ... add to decoded text.
    fn table(&self) -> TokenTable {
        let ids = self.tokenizer.get_vocab(true).into_values().max().map_or(0, |most| most + 1);
        let mut table = TokenTable { kinds: Vec::new(), bytes: Vec::new(), ends: Vec::new() };
        for id in 0..ids {
            table.kinds.push(self.kind(id) as u8);
            if self.byte_level {
                let token = self.tokenizer.id_to_token(id).unwrap_or_default();
                table.bytes.extend(spelled_bytes(token));
                table.ends.push(table.bytes.len() as u32);
            }
        }
        table
    }

    fn kind(&self, id: u32) -> TokenKind {
        let Some(token) = self.tokenizer.id_to_token(id) else {
            return TokenKind::Unknown;
        };
        if self.tokenizer.get_added_vocabulary().is_special_token(&token) {
            TokenKind::Special
        } else if self.byte_fallback && is_byte_token(&token) {
            TokenKind::Byte
        } else {
            TokenKind::Text
        }
    }
}

/// A byte for each id; where the decoder is byte-level, also what the ids spell, one after the
/// other, and where each of them ends.
struct TokenTable {
    kinds: Vec<u8>,
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

/// The bytes of a token of a byte-level vocabulary. As in the library's decoder, one with a
/// character that stands for no byte spells itself.
fn spelled_bytes(token: String) -> Vec<u8> {
    token.chars().map(byte_of).collect::<Option<Vec<u8>>>().unwrap_or_else(|| token.into_bytes())
}

/// GPT-2's alphabet: printable Latin-1 stands for itself, U+0100 and on for the other bytes.
fn byte_of(character: char) -> Option<u8> {
    let prints = |b: &u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match u32::from(character) {
        code @ 0..=0xFF => Some(code as u8).filter(prints),
        code => (0..=0xFF).filter(|b| !prints(b)).nth(code as usize - 0x100),
    }
}

/// The library panics on some malformed files; that is the file's fault, not a defect.
fn parse(json: &str) -> Result<Tokenizer, Failure> {
    serde_json::from_str::<IgnoredAny>(json)
        .map_err(|error| Failure::invalid(format!("it is not valid JSON: {error}")))?;
    catching(|| json.parse::<Tokenizer>())
        .map_err(|panic| Failure::invalid(format!("its content makes no tokenizer: {panic}")))?
        .map_err(|error| Failure::invalid(format!("its content makes no tokenizer: {error}")))
}

fn has_byte_fallback(decoder: &DecoderWrapper) -> bool {
    match decoder {
        DecoderWrapper::ByteFallback(_) => true,
        DecoderWrapper::Sequence(sequence) => sequence.get_decoders().iter().any(has_byte_fallback),
        _ => false,
    }
}

fn is_byte_token(token: &str) -> bool {
    token.len() == 6
        && token
            .strip_prefix("<0x")
            .and_then(|rest| rest.strip_suffix('>'))
            .is_some_and(|hex| u8::from_str_radix(hex, 16).is_ok())
}

/// Adds the tokens that only `tokenizer_config.json` knows (`added_tokens_decoder`), in the order
/// of their ids, as Transformers does when it loads the two files.
fn add_configured_tokens(tokenizer: &mut Tokenizer, config: &Json) -> Result<(), Failure> {
    let Some(decoder) = config.get("added_tokens_decoder").and_then(Json::as_object) else {
        return Ok(());
    };
    let mut missing = Vec::new();
    for (id, entry) in decoder {
        let id: u32 = id.parse().map_err(|_| {
            Failure::invalid(format!("added_tokens_decoder: the key {id:?} is not a token id"))
        })?;
        let Some(content) = entry.get("content").and_then(Json::as_str) else {
            return Err(Failure::invalid(format!(
                "added_tokens_decoder: token {id} has no string \"content\""
            )));
        };
        if tokenizer.token_to_id(content).is_none() {
            missing.push((id, content, entry));
        }
    }
    missing.sort_by_key(|(id, _, _)| *id);
    for (id, content, entry) in missing {
        tokenizer.add_tokens([added_token(content, entry)]).map_err(Failure::invalid)?;
        let got = tokenizer.token_to_id(content);
        if got != Some(id) {
            return Err(Failure::invalid(format!(
                "added_tokens_decoder: {content:?} should be token {id}, but tokenizer.json leaves \
                 it the id {got:?}; the two files do not belong together"
            )));
        }
    }
    Ok(())
}

fn added_token(content: &str, entry: &Json) -> AddedToken {
    let flag = |name: &str| entry.get(name).and_then(Json::as_bool);
    let special = flag("special").unwrap_or(false);
    AddedToken::from(content, special)
        .lstrip(flag("lstrip").unwrap_or(false))
        .rstrip(flag("rstrip").unwrap_or(false))
        .single_word(flag("single_word").unwrap_or(false))
        .normalized(flag("normalized").unwrap_or(!special))
}

/// Loads a tokenizer from the text of `tokenizer.json` and, unless its size is 0, of
/// `tokenizer_config.json`.
///
/// # Safety
/// The ranges are readable, `out` and `error` are writable. Free `*out` with `lt_tokenizer_free`.
#[no_mangle]
pub unsafe extern "C" fn lt_tokenizer_load(
    tokenizer_json: *const u8,
    tokenizer_json_size: usize,
    config_json: *const u8,
    config_json_size: usize,
    out: *mut *mut LtTokenizer,
    error: *mut LtString,
) -> Code {
    guarded(out, error, || {
        let tokenizer_json = utf8(tokenizer_json, tokenizer_json_size, "tokenizer.json")?;
        let config_json = utf8(config_json, config_json_size, "tokenizer_config.json")?;
        Ok(Box::into_raw(Box::new(LtTokenizer::load(tokenizer_json, config_json)?)))
    })
}

/// Frees a tokenizer; null is allowed.
///
/// # Safety
/// `tokenizer` came from `lt_tokenizer_load`, was not freed, and no call is using it.
#[no_mangle]
pub unsafe extern "C" fn lt_tokenizer_free(tokenizer: *mut LtTokenizer) {
    if !tokenizer.is_null() {
        guarded_drop(|| drop(Box::from_raw(tokenizer)));
    }
}

/// Writes the ids of `text` to `out` (free with `lt_ids_free`).
///
/// # Safety
/// `tokenizer` is live, the range is readable, `out` and `error` are writable.
#[no_mangle]
pub unsafe extern "C" fn lt_tokenizer_encode(
    tokenizer: *const LtTokenizer,
    text: *const u8,
    text_size: usize,
    add_special_tokens: bool,
    out: *mut LtIds,
    error: *mut LtString,
) -> Code {
    guarded(out, error, || {
        let text = utf8(text, text_size, "the text to encode")?;
        Ok(LtIds::from_vec((*tokenizer).encode(text, add_special_tokens)?))
    })
}

/// Writes the text of `ids` to `out` (free with `lt_string_free`). Unknown ids decode to nothing.
///
/// # Safety
/// `tokenizer` is live, the range is readable, `out` and `error` are writable.
#[no_mangle]
pub unsafe extern "C" fn lt_tokenizer_decode(
    tokenizer: *const LtTokenizer,
    ids: *const u32,
    ids_size: usize,
    skip_special_tokens: bool,
    out: *mut LtString,
    error: *mut LtString,
) -> Code {
    guarded(out, error, || {
        let ids = match ids_size {
            0 => &[],
            _ => std::slice::from_raw_parts(ids, ids_size),
        };
        let text =
            (*tokenizer).tokenizer.decode(ids, skip_special_tokens).map_err(Failure::invalid)?;
        Ok(LtString::from_bytes(text.into_bytes()))
    })
}

/// Writes how many tokens there are, added ones included.
///
/// # Safety
/// `tokenizer` is live, `out` and `error` are writable.
#[no_mangle]
pub unsafe extern "C" fn lt_tokenizer_vocab_size(
    tokenizer: *const LtTokenizer,
    out: *mut usize,
    error: *mut LtString,
) -> Code {
    guarded(out, error, || Ok((*tokenizer).tokenizer.get_vocab_size(true)))
}

/// Writes the id of exactly this token, or -1 when there is none.
///
/// # Safety
/// `tokenizer` is live, the range is readable, `out` and `error` are writable.
#[no_mangle]
pub unsafe extern "C" fn lt_tokenizer_token_to_id(
    tokenizer: *const LtTokenizer,
    token: *const u8,
    token_size: usize,
    out: *mut i64,
    error: *mut LtString,
) -> Code {
    guarded(out, error, || {
        let token = utf8(token, token_size, "the token")?;
        Ok((*tokenizer).tokenizer.token_to_id(token).map_or(-1, i64::from))
    })
}

/// What the ids 0, 1, ... contribute to decoded text. Part of the ABI.
#[repr(C)]
pub struct LtTokenTable {
    /// A `TokenKind` for each id.
    kinds: LtString,
    /// For a byte-level decoder what the ids spell, one after the other; else empty.
    bytes: LtString,
    /// The end of each id in `bytes`.
    ends: LtIds,
}

/// Writes the table to `out` (free its parts with `lt_string_free` and `lt_ids_free`).
///
/// # Safety
/// `tokenizer` is live, `out` and `error` are writable.
#[no_mangle]
pub unsafe extern "C" fn lt_tokenizer_table(
    tokenizer: *const LtTokenizer,
    out: *mut LtTokenTable,
    error: *mut LtString,
) -> Code {
    guarded(out, error, || {
        let table = (*tokenizer).table();
        Ok(LtTokenTable {
            kinds: LtString::from_bytes(table.kinds),
            bytes: LtString::from_bytes(table.bytes),
            ends: LtIds::from_vec(table.ends),
        })
    })
}
