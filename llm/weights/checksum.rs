//! A checksum of bytes that come in pieces.

/// FNV-1a over 8-byte words.
pub(crate) struct Checksum {
    hash: u64,
    /// The beginning of a word, and how much of it there is.
    word: [u8; 8],
    held: usize,
}

impl Checksum {
    /// Of so many bytes.
    pub(crate) fn new(bytes: u64) -> Checksum {
        Checksum { hash: 0xCBF2_9CE4_8422_2325 ^ bytes, word: [0; 8], held: 0 }
    }

    /// Further bytes.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        if self.held > 0 {
            let n = bytes.len().min(8 - self.held);
            self.word[self.held..self.held + n].copy_from_slice(&bytes[..n]);
            self.held += n;
            bytes = &bytes[n..];
            if self.held < 8 {
                return;
            }
            self.take(self.word);
        }
        let (words, rest) = bytes.as_chunks();
        words.iter().for_each(|word| self.take(*word));
        self.word = [0; 8];
        self.word[..rest.len()].copy_from_slice(rest);
        self.held = rest.len();
    }

    fn take(&mut self, word: [u8; 8]) {
        self.hash = (self.hash ^ u64::from_le_bytes(word)).wrapping_mul(0x100_0000_01B3).rotate_left(23);
    }

    /// The checksum, in hexadecimal.
    pub(crate) fn finish(mut self) -> String {
        if self.held > 0 {
            self.take(self.word);
        }
        format!("{:016x}", self.hash)
    }
}

/// The checksum of bytes that are there (FNV-1a over 8-byte words, in hexadecimal).
pub fn checksum(bytes: &[u8]) -> String {
    let mut all = Checksum::new(bytes.len() as u64);
    all.push(bytes);
    all.finish()
}
