//! GPT-4o's splitting.

use super::classes::{EITHER, LETTER, LOWER, NEWLINE, NUMBER, Text, UPPER};
use super::gpt4::{signs, whitespace};

/// The end of the word that begins here.
pub fn end(text: Text, at: usize) -> usize {
    let (class, n) = text.class(at);
    let before = (class & (LETTER | NUMBER | NEWLINE) == 0).then_some(at + n);
    // the expression's order: small letters with a sign before them and without, then capitals
    let starts = [before, Some(at)];
    let found = starts.iter().flatten().find_map(|s| ends_small(text, *s)).or_else(|| starts.iter().flatten().find_map(|s| capitals(text, *s)));
    if let Some(end) = found {
        return end + text.contraction(end, true);
    }
    if class & NUMBER != 0 {
        return text.few(at, NUMBER, 3);
    }
    match signs(text, at) {
        Some(mut end) => {
            while matches!(text.byte(end), b'\r' | b'\n' | b'/') {
                end += 1;
            }
            end
        }
        None => whitespace(text, at, false),
    }
}

/// `[UPPER EITHER]*[LOWER EITHER]+`: what is either is given back by the first part where no small letter follows it.
fn ends_small(text: Text, at: usize) -> Option<usize> {
    let (mut end, mut last) = (at, None);
    loop {
        let (class, n) = text.class(end);
        if class & (UPPER | EITHER) == 0 {
            break;
        }
        end += n;
        if class & EITHER != 0 {
            last = Some(end);
        }
    }
    if text.class(end).0 & LOWER != 0 { Some(text.run(end, LOWER | EITHER)) } else { last }
}

/// `[UPPER EITHER]+`: a small letter behind it would have been found before.
fn capitals(text: Text, at: usize) -> Option<usize> {
    let end = text.run(at, UPPER | EITHER);
    (end > at).then_some(end)
}
