//! Ids to text, one at a time.

use super::Tokenizer;
use super::hf::Stream;

/// Decodes ids as they come. A character whose bytes are not all there yet is held back, so what is given is text, and all that is given
/// is what [`Tokenizer::decode`] makes of all ids at once. The work is linear in the text.
#[derive(Clone)]
pub struct Decoder<'t> {
    tokenizer: &'t Tokenizer,
    /// Bytes of a character that is not whole: three at most.
    held: Vec<u8>,
    /// Where the tokens are no bytes.
    stream: Stream,
}

impl<'t> Decoder<'t> {
    /// A decoder at the start of a text.
    pub fn new(tokenizer: &'t Tokenizer) -> Decoder<'t> {
        Decoder { tokenizer, held: vec![], stream: Stream::default() }
    }

    /// The text that is certain with one more id.
    pub fn push(&mut self, id: i32) -> String {
        if let Some(wrapped) = self.tokenizer.wrapped() {
            // an id below 0 is none
            return u32::try_from(id).map_or(String::new(), |id| self.stream.push(wrapped, id));
        }
        self.tokenizer.bytes(id, &mut self.held);
        let (text, rest) = certain(&self.held);
        self.held.drain(..self.held.len() - rest);
        text
    }

    /// The end of the text: what was held back is no character.
    pub fn finish(self) -> String {
        if let Some(wrapped) = self.tokenizer.wrapped() {
            return self.stream.finish(wrapped);
        }
        String::from_utf8_lossy(&self.held).into_owned()
    }
}

/// The text of bytes that more may follow, U+FFFD where they are none, and how many at the end may be the start of a character.
fn certain(bytes: &[u8]) -> (String, usize) {
    let (mut text, mut rest) = (String::new(), bytes);
    loop {
        let error = match std::str::from_utf8(rest) {
            Ok(all) => return (text + all, 0),
            Err(error) => error,
        };
        let (good, bad) = rest.split_at(error.valid_up_to());
        text.push_str(std::str::from_utf8(good).expect("it was just found valid"));
        let Some(n) = error.error_len() else { return (text, bad.len()) };
        text.push(char::REPLACEMENT_CHARACTER);
        rest = &bad[n..];
    }
}
