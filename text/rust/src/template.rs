//! Chat templates on `minijinja`, in the environment that Transformers gives them: blocks trimmed,
//! loop controls, Python's methods, `tojson`, `raise_exception`, `strftime_now`, and the
//! `{% generation %}` block. The work of one render is bounded by fuel.

use crate::abi::{guarded, guarded_drop, utf8, Code, Failure, LtString};
use crate::tojson::tojson;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};
use regex::Regex;
use serde_json::{Map, Value as Json};
use std::error::Error as _;
use std::fmt;

/// Work units of one render: about a second of instructions, or 320 MB of text moved.
const FUEL: u64 = 5_000_000;
const NAME: &str = "chat_template";

/// A compiled chat template; immutable, so that any number of threads may render at once.
pub struct LtChatTemplate {
    environment: Environment<'static>,
    special_tokens: Map<String, Json>,
}

/// Marks an error that the template raised on purpose, with its own words.
#[derive(Debug)]
struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

impl LtChatTemplate {
    fn compile(source: &str, special_tokens_json: &str) -> Result<Self, Failure> {
        let mut environment = environment()?;
        environment
            .add_template_owned(NAME, without_generation_tags(source)?)
            .map_err(|error| Failure::invalid(format!("it does not compile: {error}")))?;
        let special_tokens = object(special_tokens_json, "the special tokens")?;
        Ok(LtChatTemplate { environment, special_tokens })
    }

    fn render(
        &self,
        messages_json: &str,
        add_generation_prompt: bool,
        kwargs_json: &str,
    ) -> Result<String, Failure> {
        let messages: Json = serde_json::from_str(messages_json)
            .map_err(|error| Failure::invalid(format!("the messages are not JSON: {error}")))?;
        if !messages.is_array() {
            return Err(Failure::invalid("the messages are not a JSON list of objects"));
        }
        let mut context = self.special_tokens.clone();
        context.insert("tools".into(), Json::Null);
        context.insert("documents".into(), Json::Null);
        context.extend(object(kwargs_json, "the template's keyword arguments")?);
        context.insert("messages".into(), messages);
        context.insert("add_generation_prompt".into(), add_generation_prompt.into());
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(Value::from(Serde(&context))))
            .map_err(render_failure)
    }
}

fn environment() -> Result<Environment<'static>, Failure> {
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .map_err(Failure::invalid)?;
    let mut environment = Environment::new();
    environment.set_syntax(syntax);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_fuel(Some(FUEL));
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    Ok(environment)
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, "raised").with_source(Raised(message)))
}

fn strftime_now(format: &str) -> Result<String, Error> {
    jiff::fmt::strtime::format(format, &jiff::Zoned::now())
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {error}")))
}

/// `{% generation %}` marks the assistant's words for training masks; for rendering it is a block
/// that is always there, which keeps its effect on white space.
fn without_generation_tags(source: &str) -> Result<String, Failure> {
    let tag = |name: &str| Regex::new(&format!(r"\{{%([-+]?)\s*{name}\s*([-+]?)%\}}"));
    let opening = tag("generation").map_err(Failure::invalid)?;
    let closing = tag("endgeneration").map_err(Failure::invalid)?;
    let source = opening.replace_all(source, "{%${1} if true ${2}%}");
    Ok(closing.replace_all(&source, "{%${1} endif ${2}%}").into_owned())
}

fn object(json: &str, what: &str) -> Result<Map<String, Json>, Failure> {
    if json.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(json) {
        Ok(Json::Object(map)) => Ok(map),
        Ok(_) => Err(Failure::invalid(format!("{what} are not a JSON object"))),
        Err(error) => Err(Failure::invalid(format!("{what} are not JSON: {error}"))),
    }
}

fn render_failure(error: Error) -> Failure {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(Raised(message)) = inner.downcast_ref::<Raised>() {
            return Failure::invalid(format!("it refuses the conversation: {message}"));
        }
        cause = inner.source();
    }
    if error.kind() == ErrorKind::OutOfFuel {
        return Failure {
            code: Code::Exhausted,
            message: format!("it does not end within {FUEL} units of work; does it loop?"),
        };
    }
    Failure::invalid(format!("it fails on this conversation: {error}"))
}

/// Compiles a template. `special_tokens_json` is an object of variables that every render sees
/// (`bos_token`, `eos_token` and the like); size 0 means none.
///
/// # Safety
/// The ranges are readable, `out` and `error` writable. Free `*out` with `lt_chat_template_free`.
#[no_mangle]
pub unsafe extern "C" fn lt_chat_template_compile(
    source: *const u8,
    source_size: usize,
    special_tokens_json: *const u8,
    special_tokens_json_size: usize,
    out: *mut *mut LtChatTemplate,
    error: *mut LtString,
) -> Code {
    guarded(out, error, || {
        let source = utf8(source, source_size, "the chat template")?;
        let tokens = utf8(special_tokens_json, special_tokens_json_size, "the special tokens")?;
        Ok(Box::into_raw(Box::new(LtChatTemplate::compile(source, tokens)?)))
    })
}

/// Frees a template; null is allowed.
///
/// # Safety
/// `template` came from `lt_chat_template_compile`, was not freed, and no call is using it.
#[no_mangle]
pub unsafe extern "C" fn lt_chat_template_free(template: *mut LtChatTemplate) {
    if !template.is_null() {
        guarded_drop(|| drop(Box::from_raw(template)));
    }
}

/// Renders messages (a JSON list) with further variables (a JSON object; size 0 means none) into
/// `out` (free with `lt_string_free`).
///
/// # Safety
/// `template` is live, the ranges are readable, `out` and `error` are writable.
#[no_mangle]
pub unsafe extern "C" fn lt_chat_template_render(
    template: *const LtChatTemplate,
    messages_json: *const u8,
    messages_json_size: usize,
    add_generation_prompt: bool,
    kwargs_json: *const u8,
    kwargs_json_size: usize,
    out: *mut LtString,
    error: *mut LtString,
) -> Code {
    guarded(out, error, || {
        let messages = utf8(messages_json, messages_json_size, "the messages")?;
        let kwargs = utf8(kwargs_json, kwargs_json_size, "the template's keyword arguments")?;
        let text = (*template).render(messages, add_generation_prompt, kwargs)?;
        Ok(LtString::from_bytes(text.into_bytes()))
    })
}
