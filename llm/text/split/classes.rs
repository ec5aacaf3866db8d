//! What each character is, in one byte.

use regex_syntax::hir::{Class, HirKind};
use std::sync::OnceLock;

/// A letter.
pub const LETTER: u8 = 1;
/// A number.
pub const NUMBER: u8 = 2;
/// White space.
pub const SPACE: u8 = 4;
/// None of these.
pub const OTHER: u8 = 8;
/// A capital or title-case letter.
pub const UPPER: u8 = 16;
/// A small letter.
pub const LOWER: u8 = 32;
/// What may stand among capitals and small letters: letters without case, modifiers and marks.
pub const EITHER: u8 = 64;
/// A line end, which is white space, too.
pub const NEWLINE: u8 = 128;

/// Unicode's general categories by what regular expressions call them, and the bits of their characters.
const ROWS: [(&str, u8); 8] = [
    (r"\p{L}", LETTER),
    (r"\p{N}", NUMBER),
    (r"\s", SPACE),
    (r"[^\s\p{L}\p{N}]", OTHER),
    (r"[\p{Lu}\p{Lt}]", UPPER),
    (r"\p{Ll}", LOWER),
    (r"[\p{Lm}\p{Lo}\p{M}]", EITHER),
    (r"[\r\n]", NEWLINE),
];

fn table() -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = vec![0; char::MAX as usize + 1];
        for (pattern, bit) in ROWS {
            for (first, last) in ranges(pattern) {
                table[first as usize..=last as usize].iter_mut().for_each(|c| *c |= bit);
            }
        }
        table
    })
}

/// The characters of a class, as the regular expressions of the tokenizers in use have them.
fn ranges(pattern: &str) -> Vec<(char, char)> {
    let hir = regex_syntax::parse(pattern).expect("the class is one");
    match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => class.iter().map(|r| (r.start(), r.end())).collect(),
        // a class of ASCII alone is kept in bytes
        HirKind::Class(Class::Bytes(class)) => class.iter().map(|r| (r.start() as char, r.end() as char)).collect(),
        other => unreachable!("{pattern} is {other:?}"),
    }
}

/// A text, or the beginning of one, with its characters' classes.
#[derive(Clone, Copy)]
pub struct Text<'t> {
    text: &'t str,
    table: &'static [u8],
}

impl<'t> Text<'t> {
    pub fn of(text: &'t str) -> Text<'t> {
        Text { text, table: table() }
    }

    pub fn len(self) -> usize {
        self.text.len()
    }

    pub fn up_to(self, end: usize) -> Text<'t> {
        Text { text: &self.text[..end], ..self }
    }

    pub fn slice(self, from: usize, to: usize) -> &'t str {
        &self.text[from..to]
    }

    /// The byte at a place; 0 at the end.
    pub fn byte(self, at: usize) -> u8 {
        self.text.as_bytes().get(at).copied().unwrap_or(0)
    }

    /// The class and the bytes of the character at a place; nothing at the end.
    #[inline]
    pub fn class(self, at: usize) -> (u8, usize) {
        match self.text.as_bytes().get(at) {
            None => (0, 0),
            Some(b) if b.is_ascii() => (self.table[usize::from(*b)], 1),
            Some(_) => {
                let c = self.text[at..].chars().next().expect("the text goes on");
                (self.table[c as usize], c.len_utf8())
            }
        }
    }

    /// The end of the run of characters that have any of some bits.
    #[inline]
    pub fn run(self, at: usize, bits: u8) -> usize {
        self.few(at, bits, usize::MAX)
    }

    /// The same, of at most so many characters.
    #[inline]
    pub fn few(self, mut at: usize, bits: u8, most: usize) -> usize {
        for _ in 0..most {
            let (class, n) = self.class(at);
            if class & bits == 0 {
                break;
            }
            at += n;
        }
        at
    }

    /// The end of a run of white space that begins here, as `\s+(?!\S)|\s+` has it: of several characters the last is left to the word
    /// that follows.
    pub fn spaces(self, at: usize) -> usize {
        let (end, (_, first)) = (self.run(at, SPACE), self.class(at));
        if end == self.len() || end == at + first {
            return end;
        }
        let last = self.text[..end].chars().next_back().expect("there are several");
        end - last.len_utf8()
    }

    /// The bytes of a contraction such as `'s` that begins here; 0 where none does. Where case does not count, `ſ` is an s.
    pub fn contraction(self, at: usize, any_case: bool) -> usize {
        if self.byte(at) != b'\'' {
            return 0;
        }
        let lower = |b: u8| if any_case { b.to_ascii_lowercase() } else { b };
        match (lower(self.byte(at + 1)), lower(self.byte(at + 2))) {
            (b's' | b't' | b'm' | b'd', _) => 2,
            (b'l', b'l') | (b'v', b'e') | (b'r', b'e') => 3,
            // the two bytes of ſ
            (0xC5, 0xBF) if any_case => 3,
            _ => 0,
        }
    }
}
