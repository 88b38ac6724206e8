//! The `tojson` filter as Transformers defines it for chat templates: Python's `json.dumps` with
//! `ensure_ascii`, `indent`, `separators` and `sort_keys`, and without HTML escapes.

use minijinja::value::{Kwargs, Rest, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};
use std::fmt::Write;

/// The keyword arguments of `json.dumps` that templates use.
struct Style {
    ensure_ascii: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
}

/// The filter: `value | tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub fn tojson(
    state: &State,
    value: &Value,
    positional: Rest<Value>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let style = Style::from_arguments(&positional, &kwargs)?;
    let mut out = String::new();
    write_value(&mut out, value, &style, 0)?;
    // The engine charges for the result; this charges for having walked the value.
    state.consume_fuel(out.len() as u64 / 64)?;
    Ok(Value::from(out))
}

impl Style {
    fn from_arguments(positional: &[Value], kwargs: &Kwargs) -> Result<Self, Error> {
        let argument = |index: usize, name: &str| -> Result<Option<Value>, Error> {
            match positional.get(index) {
                Some(value) => Ok(Some(value.clone())),
                None => kwargs.get::<Option<Value>>(name),
            }
        };
        let ensure_ascii = argument(0, "ensure_ascii")?.is_some_and(|value| value.is_true());
        let indent = argument(1, "indent")?.filter(|value| !value.is_none());
        let separators = argument(2, "separators")?.filter(|value| !value.is_none());
        let sort_keys = argument(3, "sort_keys")?.is_some_and(|value| value.is_true());
        kwargs.assert_all_used()?;
        let indent = indent.map(indent_text).transpose()?;
        let (item_separator, key_separator) = match separators {
            Some(pair) => (separator(&pair, 0)?, separator(&pair, 1)?),
            None if indent.is_some() => (",".into(), ": ".into()),
            None => (", ".into(), ": ".into()),
        };
        Ok(Style { ensure_ascii, indent, item_separator, key_separator, sort_keys })
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

fn indent_text(value: Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_string());
    }
    match value.as_i64() {
        Some(width) if width <= 64 => Ok(" ".repeat(width.max(0) as usize)),
        _ => Err(invalid(format!("tojson: indent={value} is not a string or a number up to 64"))),
    }
}

fn separator(pair: &Value, index: usize) -> Result<String, Error> {
    let value = pair.get_item_by_index(index)?;
    match value.as_str() {
        Some(text) => Ok(text.to_string()),
        None => Err(invalid("tojson: separators is not a pair of strings")),
    }
}

fn write_value(out: &mut String, value: &Value, style: &Style, depth: usize) -> Result<(), Error> {
    if depth > 128 {
        return Err(invalid("tojson: the value is nested more than 128 levels deep"));
    }
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => write_number(out, value),
        ValueKind::String => write_string(out, value.as_str().unwrap_or_default(), style),
        ValueKind::Seq | ValueKind::Iterable => write_sequence(out, value, style, depth)?,
        ValueKind::Map => write_map(out, value, style, depth)?,
        kind => return Err(invalid(format!("tojson: a value of type {kind} is not JSON"))),
    }
    Ok(())
}

fn write_number(out: &mut String, value: &Value) {
    match f64::try_from(value.clone()) {
        Ok(float) if !value.is_integer() => out.push_str(&python_float(float)),
        _ => out.push_str(&value.to_string()),
    }
}

/// A float as Python's `repr` writes it: the shortest digits, exponents from 1e16 and below 1e-4.
fn python_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(rest) => ('-', rest),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    let text = format!("{value}");
    if text.contains('.') {
        text
    } else {
        text + ".0"
    }
}

fn write_string(out: &mut String, text: &str, style: &Style) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || (style.ensure_ascii && (c as u32) > 0x7e) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn write_sequence(
    out: &mut String,
    value: &Value,
    style: &Style,
    depth: usize,
) -> Result<(), Error> {
    let items = value.try_iter()?.collect::<Vec<_>>();
    write_items(out, &items, ('[', ']'), style, depth, |out, item| {
        write_value(out, item, style, depth + 1)
    })
}

fn write_map(out: &mut String, value: &Value, style: &Style, depth: usize) -> Result<(), Error> {
    let mut keys = value.try_iter()?.collect::<Vec<_>>();
    if style.sort_keys {
        keys.sort();
    }
    write_items(out, &keys, ('{', '}'), style, depth, |out, key| {
        write_string(out, &key_text(key)?, style);
        out.push_str(&style.key_separator);
        write_value(out, &value.get_item(key)?, style, depth + 1)
    })
}

fn key_text(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.as_str().unwrap_or_default().to_string()),
        ValueKind::None | ValueKind::Bool | ValueKind::Number => {
            let mut text = String::new();
            match key.kind() {
                ValueKind::None => text.push_str("null"),
                ValueKind::Bool => text.push_str(if key.is_true() { "true" } else { "false" }),
                _ => write_number(&mut text, key),
            }
            Ok(text)
        }
        kind => Err(invalid(format!("tojson: a key of type {kind} is not JSON"))),
    }
}

fn write_items(
    out: &mut String,
    items: &[Value],
    brackets: (char, char),
    style: &Style,
    depth: usize,
    mut write_item: impl FnMut(&mut String, &Value) -> Result<(), Error>,
) -> Result<(), Error> {
    out.push(brackets.0);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(&style.item_separator);
        }
        break_line(out, style, depth + 1);
        write_item(out, item)?;
    }
    if !items.is_empty() {
        break_line(out, style, depth);
    }
    out.push(brackets.1);
    Ok(())
}

fn break_line(out: &mut String, style: &Style, depth: usize) {
    if let Some(indent) = &style.indent {
        out.push('\n');
        out.push_str(&indent.repeat(depth));
    }
}

#[cfg(test)]
mod tests {
    use super::python_float;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        let cases = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (-2.5e300, "-2.5e+300"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
        ];
        for (value, expected) in cases {
            assert_eq!(python_float(value), expected);
        }
    }
}
