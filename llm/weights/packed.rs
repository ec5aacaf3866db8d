//! Matrices that stay as they are, in few bits: whole numbers of 8 or 4, several in a word, and beside them how large the numbers of each
//! block are.
//!
//! A number is its block's size times a level. Of 8 bits levels are even, from −127/127 to 127/127, and a block is a row (Dettmers et al. 2022);
//! NF4's 16 are where normal numbers are equally likely, and a block is 64 numbers of a row (Dettmers et al. 2023, QLoRA).
//!
//! Rows are divided into as many parts as a word has numbers, and word (r, c) holds the numbers (r, c) of all parts, the first in its lowest
//! bits: what is taken out of words that are neighbours is neighbours, so that machines take many out at once. Rows and blocks that the
//! matrix does not have are zeros.

use serde::{Deserialize, Serialize};

/// How the numbers of a matrix are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Held {
    /// As they are.
    #[default]
    Whole,
    /// 8 bits each.
    Int8,
    /// 4 bits each, of NF4's levels.
    Nf4,
}

ir::spell!(Held, "way to hold numbers", [Whole "whole", Int8 "int8", Nf4 "nf4"]);

/// A way to hold numbers in few bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed {
    /// 8 bits each.
    Int8,
    /// 4 bits each, of NF4's levels.
    Nf4,
}

/// NF4's levels: of the 8 above 0 and the 7 below quantiles of a normal distribution, over the largest (Dettmers et al. 2023, appendix E).
pub const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// What an integer of 8 bits is above, so that it has no sign.
pub const MIDDLE: u32 = 128;
/// The largest of 8 bits.
const LARGEST: f32 = 127.0;

/// One of the two tensors that a packed matrix is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Of which kind of matrix.
    pub packed: Packed,
    /// Whether it is the sizes of blocks, and not the words.
    pub scales: bool,
}

impl Held {
    /// The way, if bits are saved.
    pub fn packed(self) -> Option<Packed> {
        match self {
            Held::Whole => None,
            Held::Int8 => Some(Packed::Int8),
            Held::Nf4 => Some(Packed::Nf4),
        }
    }
}

/// What the sizes of blocks are called, behind the name of the words.
const SCALES: &str = ".scale";

impl Packed {
    /// Both ways.
    pub const ALL: [Packed; 2] = [Packed::Int8, Packed::Nf4];

    /// What stands behind a matrix's name.
    fn suffix(self) -> &'static str {
        match self {
            Packed::Int8 => ".int8",
            Packed::Nf4 => ".nf4",
        }
    }

    /// Bits of a number.
    pub fn bits(self) -> usize {
        match self {
            Packed::Int8 => 8,
            Packed::Nf4 => 4,
        }
    }

    /// Numbers of a word.
    pub fn parts(self) -> usize {
        32 / self.bits()
    }

    /// Numbers of a block, of rows that have so many columns.
    pub fn block(self, columns: usize) -> usize {
        match self {
            Packed::Int8 => columns.max(1),
            Packed::Nf4 => 64,
        }
    }

    /// Rows of words and blocks of a row, of a matrix of these sizes.
    fn counts(self, [rows, columns]: [usize; 2]) -> [usize; 2] {
        [rows.div_ceil(self.parts()), columns.div_ceil(self.block(columns))]
    }

    /// The words' sizes, of a matrix of these.
    pub fn words(self, sizes: [usize; 2]) -> [usize; 3] {
        let [rows, blocks] = self.counts(sizes);
        [rows, blocks, self.block(sizes[1])]
    }

    /// Those of what blocks are multiplied by.
    pub fn scales(self, sizes: [usize; 2]) -> [usize; 3] {
        let [rows, blocks] = self.counts(sizes);
        [self.parts(), rows, blocks]
    }

    /// The names of the words and of what blocks are multiplied by, of a matrix of this name.
    pub fn names(self, matrix: &str) -> [String; 2] {
        let words = format!("{matrix}{}", self.suffix());
        let scales = format!("{words}{SCALES}");
        [words, scales]
    }

    /// What blocks of a matrix are multiplied by: the largest of their numbers, without its sign; of 8 bits over 127.
    pub fn measure(self, sizes: [usize; 2], matrix: &[f32]) -> Vec<f32> {
        let [_, rows, blocks] = self.scales(sizes);
        let (columns, block) = (sizes[1], self.block(sizes[1]));
        let mut out = vec![0f32; self.parts() * rows * blocks];
        for (row, scales) in matrix.chunks_exact(columns.max(1)).zip(out.chunks_exact_mut(blocks.max(1))) {
            for (numbers, scale) in row.chunks(block).zip(scales) {
                let largest = numbers.iter().fold(0f32, |most, x| most.max(x.abs()));
                *scale = if self == Packed::Int8 { largest / LARGEST } else { largest };
            }
        }
        out
    }

    /// The words of a matrix.
    pub fn pack(self, sizes: [usize; 2], matrix: &[f32]) -> Vec<u32> {
        let ([rows, blocks, block], columns, scales) = (self.words(sizes), sizes[1], self.measure(sizes, matrix));
        let mut out = vec![self.code(0.0, 0.0) * (u32::MAX / ((1 << self.bits()) - 1)); rows * blocks * block];
        let mask = (1u32 << self.bits()) - 1;
        for (r, row) in matrix.chunks_exact(columns.max(1)).enumerate() {
            let (part, at) = (r / rows, r % rows);
            for (c, x) in row.iter().enumerate() {
                let word = &mut out[at * blocks * block + c];
                let shift = part * self.bits();
                *word = *word & !(mask << shift) | self.code(*x, scales[r * blocks + c / block]) << shift;
            }
        }
        out
    }

    /// The nearest level of a number, by number.
    fn code(self, x: f32, scale: f32) -> u32 {
        let level = if scale > 0.0 { x / scale } else { 0.0 };
        match self {
            Packed::Int8 => (level.round_ties_even() + MIDDLE as f32) as u32,
            // a number in the middle of two is the lower
            Packed::Nf4 => NF4.windows(2).filter(|w| level > (w[0] + w[1]) / 2.0).count() as u32,
        }
    }

    /// The matrix that words and what blocks are multiplied by are.
    pub fn unpack(self, sizes: [usize; 2], words: &[u32], scales: &[f32]) -> Vec<f32> {
        let ([rows, blocks, block], [all, columns]) = (self.words(sizes), sizes);
        let mask = (1u32 << self.bits()) - 1;
        let one = |r: usize, c: usize| {
            let code = words[r % rows * blocks * block + c] >> (r / rows * self.bits()) & mask;
            let level = match self {
                Packed::Int8 => code as f32 - MIDDLE as f32,
                Packed::Nf4 => NF4[code as usize],
            };
            level * scales[r * blocks + c / block]
        };
        (0..all).flat_map(|r| (0..columns).map(move |c| (r, c))).map(|(r, c)| one(r, c)).collect()
    }

    /// The numbers of a matrix as they are once they were packed.
    pub fn rounded(self, sizes: [usize; 2], matrix: &[f32]) -> Vec<f32> {
        self.unpack(sizes, &self.pack(sizes, matrix), &self.measure(sizes, matrix))
    }
}

impl Part {
    /// Which part of which matrix a tensor of this name is.
    pub fn of(name: &str) -> Option<(&str, Part)> {
        let (words, scales) = name.strip_suffix(SCALES).map_or((name, false), |words| (words, true));
        Packed::ALL.into_iter().find_map(|packed| Some((words.strip_suffix(packed.suffix())?, Part { packed, scales })))
    }

    /// Its sizes, of a matrix of these.
    pub fn sizes(self, matrix: [usize; 2]) -> [usize; 3] {
        if self.scales { self.packed.scales(matrix) } else { self.packed.words(matrix) }
    }

    /// Its bytes, of a matrix of these sizes.
    pub fn bytes(self, sizes: [usize; 2], matrix: &[f32]) -> Vec<u8> {
        if self.scales {
            return self.packed.measure(sizes, matrix).iter().flat_map(|x| x.to_le_bytes()).collect();
        }
        self.packed.pack(sizes, matrix).iter().flat_map(|x| x.to_le_bytes()).collect()
    }
}
