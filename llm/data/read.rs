//! Text from a file.

use crate::error::{Result, file_error};
use crate::files::{Irregular, irregular};
use std::path::Path;

/// Reads a text file; says what is wrong with one that is not UTF-8. A byte order mark at its start is no part of the text; line ends stay
/// as they are, so that `\r\n` is two characters.
pub fn read_text(path: &Path) -> Result<String> {
    let bytes = read(path)?;
    let text = String::from_utf8(bytes).map_err(|e| file_error(path, "this is not UTF-8 text", first_fault(&e)))?;
    let text = text.strip_prefix('\u{FEFF}').map(str::to_string).unwrap_or(text);
    if text.trim().is_empty() {
        return Err(file_error(path, "the text is empty", "there is nothing to learn"));
    }
    Ok(text)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let fail = |why: String| file_error(path, "the text cannot be read", why);
    if path == Path::new("-") {
        return Err(fail("standard input is not read, because --resume reads the text again; give a file".into()));
    }
    let what = std::fs::metadata(path).map_err(|e| fail(format!("{e}; give a file of UTF-8 text")))?;
    // a pipe has an end, a device may have none
    match irregular(&what) {
        Some(what @ (Irregular::Directory | Irregular::Device)) => Err(fail(format!("it is {what}; give a file of UTF-8 text"))),
        Some(Irregular::Pipe) | None => std::fs::read(path).map_err(|e| fail(e.to_string())),
    }
}

/// Where the first byte that is no UTF-8 stands, and what to try.
fn first_fault(e: &std::string::FromUtf8Error) -> String {
    let (at, bytes) = (e.utf8_error().valid_up_to(), e.as_bytes());
    let line = 1 + bytes[..at].iter().filter(|b| **b == b'\n').count();
    let from = if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) { "UTF-16" } else { "LATIN1" };
    format!("byte {at}, in line {line}, is {:#04x}; convert it, for example with iconv -f {from} -t UTF-8", bytes[at])
}
