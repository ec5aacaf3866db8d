//! GPT-4's splitting and its kin.

use super::classes::{LETTER, NEWLINE, NUMBER, OTHER, SPACE, Text};

/// The end of the word that begins here: numbers of at most `digits`, and white space at the end of a text as one word if so said.
pub fn end(text: Text, at: usize, digits: usize, last_spaces: bool) -> usize {
    let contraction = text.contraction(at, true);
    if contraction > 0 {
        return at + contraction;
    }
    let (class, n) = text.class(at);
    if class & LETTER != 0 {
        return text.run(at, LETTER);
    }
    // any one sign or space may stand before letters
    if class & (NUMBER | NEWLINE) == 0 && text.class(at + n).0 & LETTER != 0 {
        return text.run(at + n, LETTER);
    }
    if class & NUMBER != 0 {
        return text.few(at, NUMBER, digits);
    }
    signs(text, at).map_or_else(|| whitespace(text, at, last_spaces), |end| text.run(end, NEWLINE))
}

/// The end of signs, a space before them perhaps; none where there are none.
pub fn signs(text: Text, at: usize) -> Option<usize> {
    let start = if text.byte(at) == b' ' { at + 1 } else { at };
    (text.class(start).0 & OTHER != 0).then(|| text.run(start, OTHER))
}

/// White space up to its last line end, or else as GPT-2 has it.
pub fn whitespace(text: Text, at: usize, last_spaces: bool) -> usize {
    let end = text.run(at, SPACE);
    if last_spaces && end == text.len() {
        return end;
    }
    match text.slice(at, end).rfind(['\r', '\n']) {
        Some(newline) => at + newline + 1,
        None => text.spaces(at),
    }
}
