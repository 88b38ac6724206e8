//! What every function of the ABI shares: owned strings, status codes, borrowed byte ranges, and
//! the guard that turns an error or a panic into a code and a message.

use std::cell::RefCell;
use std::fmt::Display;
use std::panic::{catch_unwind, set_hook, take_hook, AssertUnwindSafe};
use std::sync::Once;

/// How a call ended. The numbers are part of the ABI (`lockstep_text.h`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Ok = 0,
    /// The input is at fault: malformed JSON, invalid UTF-8, a template that raised.
    Invalid = 1,
    /// The work exceeds its budget: a template that would not end.
    Exhausted = 2,
    /// A defect: a panic in this crate or in one that it uses.
    Panic = 3,
}

/// An error on its way to the caller.
pub struct Failure {
    pub code: Code,
    pub message: String,
}

impl Failure {
    pub fn invalid(message: impl Display) -> Self {
        Failure { code: Code::Invalid, message: message.to_string() }
    }
}

/// Bytes owned by Rust and lent to C until `lt_string_free`. `data` is null for the empty string.
#[repr(C)]
pub struct LtString {
    pub data: *mut u8,
    pub size: usize,
}

impl LtString {
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        if bytes.is_empty() {
            return LtString { data: std::ptr::null_mut(), size: 0 };
        }
        let boxed = bytes.into_boxed_slice();
        let size = boxed.len();
        LtString { data: Box::into_raw(boxed) as *mut u8, size }
    }
}

/// Ids owned by Rust and lent to C until `lt_ids_free`. `data` is null for an empty list.
#[repr(C)]
pub struct LtIds {
    pub data: *mut u32,
    pub size: usize,
}

impl LtIds {
    pub fn from_vec(ids: Vec<u32>) -> Self {
        if ids.is_empty() {
            return LtIds { data: std::ptr::null_mut(), size: 0 };
        }
        let boxed = ids.into_boxed_slice();
        let size = boxed.len();
        LtIds { data: Box::into_raw(boxed) as *mut u32, size }
    }
}

thread_local! {
    /// What the panic said that this thread is catching; `None` while it catches none.
    static CAUGHT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `body` and turns a panic into its message and place. Unlike `catch_unwind` alone it prints
/// nothing: the message goes to the caller, who knows what was asked.
pub fn catching<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let loud = take_hook();
        set_hook(Box::new(move |info| {
            let text = info.to_string().replace('\n', " ");
            match CAUGHT.with(|caught| caught.borrow_mut().as_mut().map(|slot| *slot = text)) {
                Some(()) => {}
                None => loud(info),
            }
        }));
    });
    let outer = CAUGHT.replace(Some(String::new()));
    let result = catch_unwind(AssertUnwindSafe(body));
    let message = CAUGHT.replace(outer).unwrap_or_default();
    result.map_err(|payload| {
        // The payload's own destructor may panic as well, outside of the guard.
        std::mem::forget(payload);
        message
    })
}

/// Runs `body`, writes its result to `out` or its failure to `error`, and returns the code.
///
/// # Safety
/// `out` and `error` are valid for one write each.
pub unsafe fn guarded<T>(
    out: *mut T,
    error: *mut LtString,
    body: impl FnOnce() -> Result<T, Failure>,
) -> Code {
    let failure = match catching(body) {
        Ok(Ok(value)) => {
            out.write(value);
            return Code::Ok;
        }
        Ok(Err(failure)) => failure,
        Err(message) => Failure {
            code: Code::Panic,
            message: format!("a defect in the text library: {message}"),
        },
    };
    error.write(LtString::from_bytes(failure.message.into_bytes()));
    failure.code
}

/// Runs a destructor; one that panics leaks what it had not freed yet.
pub fn guarded_drop(body: impl FnOnce()) {
    let _ = catching(body);
}

/// The bytes `[data, data + size)` as UTF-8; `what` names them in the error.
///
/// # Safety
/// `data` is valid for `size` bytes for the lifetime that the caller picks, or `size` is 0.
pub unsafe fn utf8<'a>(data: *const u8, size: usize, what: &str) -> Result<&'a str, Failure> {
    if size == 0 {
        return Ok("");
    }
    std::str::from_utf8(std::slice::from_raw_parts(data, size)).map_err(|error| {
        Failure::invalid(format!(
            "{what} is not valid UTF-8: byte {} of {size} starts no character",
            error.valid_up_to()
        ))
    })
}

/// Frees a string that a call of this library returned; the empty one is allowed.
///
/// # Safety
/// `string` came from this library and was not freed before.
#[no_mangle]
pub unsafe extern "C" fn lt_string_free(string: LtString) {
    if !string.data.is_null() {
        let range = std::ptr::slice_from_raw_parts_mut(string.data, string.size);
        guarded_drop(|| drop(Box::from_raw(range)));
    }
}

/// Frees ids that a call of this library returned; an empty list is allowed.
///
/// # Safety
/// `ids` came from this library and was not freed before.
#[no_mangle]
pub unsafe extern "C" fn lt_ids_free(ids: LtIds) {
    if !ids.data.is_null() {
        let range = std::ptr::slice_from_raw_parts_mut(ids.data, ids.size);
        guarded_drop(|| drop(Box::from_raw(range)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(body: impl FnOnce() -> Result<u32, Failure>) -> (Code, u32, String) {
        let mut out = 0;
        let mut error = LtString { data: std::ptr::null_mut(), size: 0 };
        let code = unsafe { guarded(&mut out, &mut error, body) };
        let message = match error.data.is_null() {
            true => String::new(),
            false => unsafe { utf8(error.data, error.size, "error") }.unwrap_or("").to_string(),
        };
        unsafe { lt_string_free(error) };
        (code, out, message)
    }

    #[test]
    fn a_result_is_passed_on() {
        assert_eq!(run(|| Ok(7)), (Code::Ok, 7, String::new()));
    }

    #[test]
    fn a_failure_becomes_its_code_and_message() {
        let got = run(|| Err(Failure::invalid("asked for 3")));
        assert_eq!(got, (Code::Invalid, 0, "asked for 3".to_string()));
    }

    #[test]
    fn a_panic_becomes_a_code_and_never_crosses() {
        let (code, _, message) = run(|| panic!("boom {}", 1));
        assert_eq!(code, Code::Panic);
        assert!(message.ends_with("boom 1"), "{message}");
    }

    #[test]
    fn a_destructor_that_panics_is_contained() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("in drop");
            }
        }
        guarded_drop(|| drop(Bomb));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused_with_their_place() {
        let bytes = b"ab\xffcd";
        let failure = unsafe { utf8(bytes.as_ptr(), bytes.len(), "prompt") }.unwrap_err();
        assert_eq!(failure.message, "prompt is not valid UTF-8: byte 2 of 5 starts no character");
    }
}
