//! Bytes as printable characters: how GPT-2's files, and all files of byte-level tokenizers since, write tokens.

/// The character of a byte: itself where it prints in Latin-1, and else one from U+0100 on, in order.
pub fn character(byte: u8) -> char {
    let printable = |b: u8| matches!(b, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(byte) {
        return char::from(byte);
    }
    let place = (0..byte).filter(|b| !printable(*b)).count() as u32;
    char::from_u32(0x100 + place).expect("there are fewer than 256")
}

/// All bytes in the order of their characters, which is the order of ids in GPT-2's vocabulary.
pub fn bytes() -> [u8; 256] {
    let mut all: [u8; 256] = std::array::from_fn(|b| b as u8);
    all.sort_by_key(|b| character(*b));
    all
}

/// Bytes as characters.
pub fn written(bytes: &[u8]) -> String {
    bytes.iter().map(|b| character(*b)).collect()
}

/// Characters as bytes; none where one of them is of no byte.
pub fn read(text: &str) -> Option<Vec<u8>> {
    let byte = |c: char| match c as u32 {
        c @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => Some(c as u8),
        c @ 0x100..=0x143 => REST.get(c as usize - 0x100).copied(),
        _ => None,
    };
    text.chars().map(byte).collect()
}

/// The bytes that do not print, in order.
const REST: [u8; 68] = {
    let (mut rest, mut n, mut b) = ([0; 68], 0, 0);
    while b < 256 {
        if b < 0x21 || (b > 0x7E && b < 0xA1) || b == 0xAD {
            rest[n] = b as u8;
            n += 1;
        }
        b += 1;
    }
    rest
};
