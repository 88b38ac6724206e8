//! The C ABI of Lockstep's text library: Hugging Face's `tokenizers` and chat templates on
//! `minijinja`. The declarations are in `../lockstep_text.h`; the C++ classes over them in
//! `text/tokenizer.h` and `text/chat_template.h`. No panic leaves this crate (see `abi.rs`).

mod abi;
mod template;
mod tojson;
mod tokenizer;
