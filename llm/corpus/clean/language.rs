//! Which language a text is in.

use crate::error::{Error, Result, hint};
use whatlang::Lang;

/// Characters that are looked at: more do not change the answer, and take time.
const ENOUGH: usize = 2000;

/// The language of a text, as a code of ISO 639-3, and how sure that is, from 0 to 1; none where it has no letters.
pub fn identify(text: &str) -> Option<(&'static str, f64)> {
    let end = text.char_indices().nth(ENOUGH).map_or(text.len(), |c| c.0);
    whatlang::detect(&text[..end]).map(|i| (i.lang().code(), i.confidence()))
}

/// Whether a code is of a language that is known.
pub fn check(code: &str) -> Result<()> {
    if Lang::from_code(code).is_some() {
        return Ok(());
    }
    let known: Vec<&str> = Lang::all().iter().map(|l| l.code()).collect();
    Err(Error(format!("'{code}' is no language that is known{}: expected codes as eng or deu, of {}", hint(code, &known), known.join(" "))))
}
