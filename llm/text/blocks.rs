//! A text of any length, read in blocks.

use super::count::Splitter;
use crate::error::{Result, file_error};
use std::io::{self, Read};
use std::path::Path;

/// Reads UTF-8 text in blocks of about a size, each cut where that changes no word. A byte order mark at the start is no text. A block is
/// longer where there is no such place.
pub struct Blocks<R> {
    from: R,
    name: std::path::PathBuf,
    splitter: Splitter,
    size: usize,
    held: Vec<u8>,
    at: u64,
    ended: bool,
}

/// No block is longer, whatever the text: one without a place to cut is an error.
const LONGEST: usize = 1 << 30;

impl<R: Read> Blocks<R> {
    /// A text of a name, for errors.
    pub fn new(from: R, name: &Path, splitter: Splitter, size: usize) -> Blocks<R> {
        Blocks { from, name: name.into(), splitter, size, held: vec![], at: 0, ended: false }
    }

    /// The next block; none at the end.
    fn block(&mut self) -> Result<Option<String>> {
        let mut want = self.size;
        loop {
            self.fill(want).map_err(|e| file_error(&self.name, "the text cannot be read", e))?;
            let text = self.text()?;
            // the last block is all that is left
            let whole = self.ended && text.len() <= want;
            let cut = if whole { Some(text.len()) } else { self.splitter.cut(text, want.min(text.len())) };
            if let Some(at) = cut {
                let rest = self.held.split_off(at);
                let block = std::mem::replace(&mut self.held, rest);
                let from = if self.at == 0 && block.starts_with(&[0xEF, 0xBB, 0xBF]) { 3 } else { 0 };
                self.at += at as u64;
                let block = String::from_utf8(block).expect("it was looked at")[from..].to_string();
                return Ok((at > 0).then_some(block));
            }
            if want >= LONGEST {
                let why = format!("{LONGEST} bytes from byte {} on hold no space between words and no line end", self.at);
                return Err(file_error(&self.name, "the text cannot be split", why + "; is it text?"));
            }
            want *= 2;
        }
    }

    fn fill(&mut self, want: usize) -> io::Result<()> {
        while !self.ended && self.held.len() < want {
            let more = (want - self.held.len()) as u64;
            self.ended = (&mut self.from).take(more).read_to_end(&mut self.held)? == 0;
        }
        Ok(())
    }

    /// What is held, without the bytes at its end that may be the beginning of a character.
    fn text(&self) -> Result<&str> {
        match std::str::from_utf8(&self.held) {
            Ok(text) => Ok(text),
            Err(e) if e.error_len().is_none() && !self.ended => {
                Ok(std::str::from_utf8(&self.held[..e.valid_up_to()]).expect("it is valid up to there"))
            }
            Err(e) => {
                let (at, byte) = (self.at + e.valid_up_to() as u64, self.held[e.valid_up_to()]);
                Err(file_error(
                    &self.name,
                    "this is not UTF-8 text",
                    format!("byte {at} is {byte:#04x}; convert it, for example with iconv -t UTF-8"),
                ))
            }
        }
    }
}

impl<R: Read> Iterator for Blocks<R> {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Result<String>> {
        self.block().transpose()
    }
}
