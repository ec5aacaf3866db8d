//! GPT-2's splitting.

use super::classes::{LETTER, NUMBER, OTHER, SPACE, Text};

/// The end of the word that begins here.
pub fn end(text: Text, at: usize) -> usize {
    let contraction = text.contraction(at, false);
    if contraction > 0 {
        return at + contraction;
    }
    let start = if text.byte(at) == b' ' { at + 1 } else { at };
    let class = text.class(start).0;
    // one of these bits, or none at a space and at the end
    let bits = class & (LETTER | NUMBER | OTHER);
    if bits != 0 { text.run(start, bits) } else { whitespace(text, at) }
}

fn whitespace(text: Text, at: usize) -> usize {
    debug_assert!(text.class(at).0 & SPACE != 0, "all else is a word");
    text.spaces(at)
}
