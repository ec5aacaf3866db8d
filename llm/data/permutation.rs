//! Random bits of a counter, and orders that are computed place by place.

/// 64 random bits of a counter under a seed (SplitMix64's output function).
pub fn random(seed: u64, counter: u64) -> u64 {
    let mut z = seed.wrapping_add(counter.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// What a key is for, so that no two orders of a run are alike.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// Where the windows of an epoch begin.
    Phase,
    /// The order of its windows.
    Windows,
    /// The order of its documents.
    Documents,
    /// The order of the rows that a block of documents fills.
    Rows,
    /// The order of sources in a block of rows.
    Sources,
    /// What is drawn for a row.
    Row,
}

impl Purpose {
    /// The key of an order: of a seed, the number of the source or the stage, of the epoch and of the block.
    pub(super) fn key(self, seed: u64, of: [u64; 3]) -> u64 {
        of.iter().fold(random(seed, self as u64), |key, number| random(key, *number))
    }
}

/// A pseudo-random permutation of the numbers below a bound, each place computed alone: a Feistel network over the next power of four,
/// whose cycles are walked until they are below the bound (Black & Rogaway 2002).
#[derive(Clone, Copy, Debug)]
pub struct Permutation {
    count: u64,
    /// Bits of each half.
    half: u32,
    keys: [u64; 6],
}

impl Permutation {
    /// A permutation of the numbers below `count`, which is at least 1.
    pub fn new(count: u64, key: u64) -> Permutation {
        let bits = u64::BITS - count.saturating_sub(1).leading_zeros();
        Permutation { count, half: bits.div_ceil(2).max(1), keys: [0, 1, 2, 3, 4, 5].map(|round| random(key, round)) }
    }

    /// The number at a place; both are below the bound.
    pub fn at(&self, place: u64) -> u64 {
        let mut number = self.mixed(place);
        // a cycle that begins below the bound comes back there
        while number >= self.count {
            number = self.mixed(number);
        }
        number
    }

    fn mixed(&self, number: u64) -> u64 {
        let mask = (1 << self.half) - 1;
        let round = |(left, right): (u64, u64), key: &u64| (right, left ^ random(*key, right) & mask);
        let (left, right) = self.keys.iter().fold((number >> self.half, number & mask), round);
        left << self.half | right
    }
}
