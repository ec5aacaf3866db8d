//! The bytes of a file, unpacked, in pieces of bounded length.

use super::input::Input;
use crate::error::{Error, Result, file_error};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

const BUFFER: usize = 1 << 18;

/// The bytes of an input: what gzip or zstd packed is unpacked, and a byte order mark is no part of them.
pub struct Source {
    reader: Box<dyn BufRead>,
    name: String,
    utf16: bool,
    bytes: u64,
    line: u64,
}

/// What was found up to a separator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece {
    /// All of it.
    Whole,
    /// More than fits; the rest was passed over.
    TooLong,
}

impl Source {
    /// Opens an input.
    pub fn open(input: &Input) -> Result<Source> {
        let fail = |e: io::Error| fault(&input.name, 0, &e);
        let file: Box<dyn Read> = match input.path() {
            Some(path) => Box::new(File::open(path).map_err(fail)?),
            None => Box::new(io::stdin()),
        };
        let (head, packed) = peek(BufReader::with_capacity(BUFFER, file)).map_err(fail)?;
        let plain: Box<dyn BufRead> = match head {
            [0x1F, 0x8B, ..] => Box::new(BufReader::with_capacity(BUFFER, flate2::bufread::MultiGzDecoder::new(packed))),
            [0x28, 0xB5, 0x2F, 0xFD] => Box::new(BufReader::with_capacity(BUFFER, zstd::Decoder::with_buffer(packed).map_err(fail)?)),
            _ => Box::new(packed),
        };
        let (head, mut reader) = peek(plain).map_err(fail)?;
        if let [0xEF, 0xBB, 0xBF, _] = head {
            reader.read_exact(&mut [0; 3]).map_err(fail)?;
        }
        let utf16 = matches!(head, [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..]);
        Ok(Source { reader: Box::new(reader), name: input.name.clone(), utf16, bytes: 0, line: 1 })
    }

    /// Whether it begins with UTF-16's byte order mark.
    pub fn is_utf16(&self) -> bool {
        self.utf16
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The line of the next byte, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The bytes up to a separator or the end, without the separator; none at the end. More than `limit` bytes are passed over.
    pub fn until(&mut self, separator: &[u8], limit: u64, piece: &mut Vec<u8>) -> Result<Option<Piece>> {
        let (mut any, mut found) = (false, Piece::Whole);
        let last = *separator.last().expect("a separator has at least one byte");
        piece.clear();
        loop {
            let (from, room) = (piece.len(), limit + separator.len() as u64 + 1 - piece.len() as u64);
            let n = self.reader.by_ref().take(room).read_until(last, piece).map_err(|e| fault(&self.name, self.line, &e))?;
            self.pass(&piece[from..]);
            any |= n > 0;
            if n == 0 {
                break;
            }
            if piece.ends_with(separator) {
                piece.truncate(piece.len() - separator.len());
                break;
            }
            if piece.len() as u64 > limit + separator.len() as u64 {
                // what may be the beginning of a separator stays
                piece.drain(..piece.len() + 1 - separator.len());
                found = Piece::TooLong;
            }
        }
        if piece.len() as u64 > limit {
            found = Piece::TooLong;
        }
        Ok(any.then_some(found))
    }

    /// The next bytes, as many as are at hand; none at the end. They stay until [`Source::consume`].
    pub fn fill(&mut self) -> Result<&[u8]> {
        self.reader.fill_buf().map_err(|e| fault(&self.name, self.line, &e))
    }

    /// Goes on behind so many of the bytes that are at hand.
    pub fn consume(&mut self, n: usize) -> Result<()> {
        let passed = self.reader.fill_buf().map_err(|e| fault(&self.name, self.line, &e))?;
        (self.bytes, self.line) = (self.bytes + n as u64, self.line + lines(&passed[..n]));
        self.reader.consume(n);
        Ok(())
    }

    fn pass(&mut self, bytes: &[u8]) {
        (self.bytes, self.line) = (self.bytes + bytes.len() as u64, self.line + lines(bytes));
    }

    /// All bytes, as [`Source::until`] gives them.
    pub fn rest(&mut self, limit: u64, all: &mut Vec<u8>) -> Result<Piece> {
        all.clear();
        let n = self.reader.by_ref().take(limit + 1).read_to_end(all).map_err(|e| fault(&self.name, self.line, &e))?;
        self.pass(all);
        Ok(if n as u64 > limit { Piece::TooLong } else { Piece::Whole })
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buffer)?;
        self.pass(&buffer[..n]);
        Ok(n)
    }
}

/// The first bytes of a reader, 0 where it has fewer, and the reader with them.
fn peek<R: BufRead>(mut reader: R) -> io::Result<([u8; 4], io::Chain<Cursor<Vec<u8>>, R>)> {
    let (mut head, mut bytes) = ([0; 4], vec![]);
    reader.by_ref().take(4).read_to_end(&mut bytes)?;
    head[..bytes.len()].copy_from_slice(&bytes);
    Ok((head, Cursor::new(bytes).chain(reader)))
}

/// Line ends in some bytes.
pub fn lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|b| **b == b'\n').count() as u64
}

fn fault(name: &str, line: u64, e: &io::Error) -> Error {
    let place = if line > 1 { format!("in line {line}: ") } else { String::new() };
    file_error(Path::new(name), "the file cannot be read", format!("{place}{e}; is it whole?"))
}
