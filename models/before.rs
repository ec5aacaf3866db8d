//! Tokens that stand before every text and are none of it: what is known of them is learned, as what the embedding is of other tokens (Lester
//! et al. 2021), or as what layers keep of such (Li & Liang 2021).
//!
//! Of a model whose tokens see those before them, what layers keep of a beginning is the same whatever follows. So both are what generation
//! keeps, of tokens that stand in no row, and all rows and documents see them.

use crate::architecture::Kept;
use ir::{Op, Tensor};

/// What stands before every text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    /// How many tokens.
    pub tokens: usize,
    /// What is learned of them.
    pub learned: Learned,
    /// The parameter's path.
    pub path: String,
}

/// What is learned of a token that stands before every text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// What the embedding is of others, so wide: `[N, C]`.
    Embedding(usize),
    /// What each layer keeps of it, one layer's after another's, each in the order of the cache: `[N, layers · 2 · heads · depth]` of keys and
    /// values.
    Kept,
}

/// What all layers keep of a token, where that is alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alike {
    /// Number of layers.
    pub layers: usize,
    /// Tensors that a layer keeps: two, of keys and values.
    pub each: usize,
    /// Number of heads.
    pub heads: usize,
    /// Elements a head.
    pub depth: usize,
}

impl Alike {
    /// Of what a model keeps; none where it keeps nothing, or of one layer other sizes than of another.
    pub fn of(cache: &[Kept]) -> Option<Alike> {
        let Kept { heads, depth, .. } = *cache.first()?;
        let alike = cache.iter().all(|k| (k.heads, k.depth) == (heads, depth));
        let (all, each) = (cache.iter().map(|k| k.layers).sum::<usize>(), cache.iter().filter(|k| k.place.first == cache[0].place.first).count());
        (alike && all.is_multiple_of(each)).then(|| Alike { layers: all / each, each, heads, depth })
    }

    /// Elements of a token.
    pub fn width(self) -> usize {
        self.layers * self.each * self.heads * self.depth
    }

    /// What is kept of tokens, `[N, width]`, by the tensors of the cache: each [layers, 1, heads, N, depth].
    pub(crate) fn split<'g>(self, x: Tensor<'g>, tokens: usize, cache: &[Kept]) -> Vec<(Kept, Tensor<'g>)> {
        let Alike { layers, each, heads, depth } = self;
        let all = x.reshape([tokens, layers, each, heads, depth]).transpose(&[2, 1, 3, 0, 4]); // [each, L, H, N, D]
        let number = |at: usize| cache[..at].iter().filter(|k| k.place == cache[at].place).count();
        let one = |at: usize| {
            let k = cache[at];
            let own = all.slice(-5, number(at), number(at) + 1).reshape([layers, heads, tokens, depth]);
            (k, every(own, k).reshape([k.layers, 1, heads, tokens, depth]))
        };
        (0..cache.len()).map(one).collect()
    }
}

/// Of all layers [L, H, N, D] those that keep what they do in one tensor.
fn every<'g>(x: Tensor<'g>, kept: Kept) -> Tensor<'g> {
    let (first, step, n) = (kept.place.first, kept.place.step, kept.layers);
    let run = x.slice(-4, first, first + (n - 1) * step + 1);
    if step == 1 {
        return run;
    }
    // each followed by those of the others in the pattern
    let (h, t, d) = (x.dim(-3), x.dim(-2), x.dim(-1));
    let whole = run.apply(Op::Pad(-4, 0, step as u32 - 1), &[]);
    whole.reshape((n, step, h, t, d)).slice(-4, 0, 1).reshape((n, h, t, d))
}
