//! Tokens as a page.

use super::view::COLORS;
use std::fmt::Write;

/// One file that needs no other: each token in a colour, its id on hovering.
pub fn page(pieces: &[(i32, String)], bytes: usize, characters: usize) -> String {
    let mut body = String::new();
    for (i, (id, piece)) in pieces.iter().enumerate() {
        let _ = write!(body, "<span class=c{} title=\"{id}\">{}</span>", i % COLORS.len(), escaped(piece));
    }
    let styles: String = COLORS.iter().enumerate().map(|(i, (_, color))| format!(".c{i}{{background:{color}}}")).collect();
    let tokens = pieces.len();
    let each = bytes as f64 / tokens.max(1) as f64;
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>tokens</title>\n<style>body{{font:16px/1.6 monospace;margin:2em;max-width:60em}}\
         pre{{white-space:pre-wrap;word-break:break-word}}span{{color:#000;border-radius:2px}}{styles}</style>\n\
         <p>{tokens} tokens, {characters} characters, {bytes} bytes: {each:.2} bytes a token</p>\n<pre>{body}</pre>\n</html>\n"
    )
}

/// Text that no browser takes for markup.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
