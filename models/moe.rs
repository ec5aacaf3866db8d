//! Mixtures of experts (Shazeer et al. 2017; Jiang et al. 2024), in primitive operations: a router, rows sorted by expert by arithmetic, each
//! row by the matrices of its own expert, and the losses that keep routers even. No token is dropped, whatever the router does.
//!
//! A product with the own expert's matrix is written as the mathematics has it, over all experts, of which one counts; the compiler finds
//! that no other need be computed.

use crate::check;
use crate::layers::{silu, softmax};
use ir::{DType, Dim, Dims, Op, Scope, Tensor};

/// A layer of experts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Experts {
    /// How many there are.
    pub count: usize,
    /// How many a token goes to: those that its router likes best.
    pub chosen: usize,
    /// In how many groups they stand, one after the other.
    pub groups: usize,
    /// Of how many groups, those with the best experts, a token's are.
    pub chosen_groups: usize,
    /// Width inside each.
    pub width: usize,
    /// Whether a token's weights are made to sum to 1.
    pub normalised: bool,
    /// What weights are multiplied by.
    pub scale: f64,
    /// The names of the three projections: gate, up and down.
    pub names: [&'static str; 3],
}

/// How many experts there may be: their numbers times a row's tokens are counted in 32 bits.
const MOST: usize = 4096;

impl Experts {
    /// Why there is no such layer, by the names of its settings, if there is none.
    pub fn check(&self, count: &str, chosen: &str) -> Result<(), String> {
        check::within(count, self.count, 1..=MOST, 8)?;
        check::within(chosen, self.chosen, 1..=self.count, 2.min(self.count))
    }

    /// What a layer makes of x [B, T, C], and its router's logits [B, T, E]. Its parameters are `gate.weight` and, of each expert,
    /// `experts.{}.<name>.weight`, stored [out, in].
    #[track_caller]
    pub fn apply<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> (Tensor<'g>, Tensor<'g>) {
        let (b, t, c) = (x.dim(-3), x.dim(-2), x.dim(-1));
        let logits = x.contract("btc,ec->bte", s.at("gate").param("weight", (Dim::from(self.count), c)));
        let (experts, weights) = self.route(s, softmax(logits));
        let sorted = Sorted::new(s, experts, self.count);
        let expert = |name: &str, x: Tensor<'g>, width: Dim| {
            let w = s.at("experts.{}").at(name).param("weight", (Dim::from(self.count), width, x.dim(-1)));
            own_product(s, x, w, sorted.expert)
        };
        let [gate, up, down] = self.names;
        let (rows, width) = (x.reshape((product(b, t), c)).gather(sorted.token), Dim::from(self.width));
        let y = expert(down, silu(expert(gate, rows, width)) * expert(up, rows, width), c);
        let y = (y.gather(sorted.place) * weights.reshape((b, t, self.chosen, 1usize))).sum_axes(&[-2]);
        (y.reshape((b, t, c)), logits)
    }

    /// The experts of each token, best first, and their weights, both [B, T, K]. p: [B, T, E]
    fn route<'g>(&self, s: &Scope<'g>, p: Tensor<'g>) -> (Tensor<'g>, Tensor<'g>) {
        let p = self.of_best_groups(s, p);
        let best = top(s, p, self.chosen);
        let weights = best.iter().map(|(_, hit)| hit.select(p, s.num(0.0)).sum());
        let weights = beside(weights).expect("a token has an expert");
        let weights = if self.normalised { weights / weights.sum() } else { weights };
        let experts = beside(best.iter().map(|(number, _)| number.cast(DType::I32))).expect("a token has an expert");
        (experts, if self.scale == 1.0 { weights } else { weights * self.scale })
    }

    /// p [B, T, E] with 0 for experts of groups that are not chosen.
    fn of_best_groups<'g>(&self, s: &Scope<'g>, p: Tensor<'g>) -> Tensor<'g> {
        if self.chosen_groups >= self.groups {
            return p;
        }
        let (b, t, each) = (p.dim(-3), p.dim(-2), self.count / self.groups);
        let by_group = p.reshape((b, t, self.groups, each));
        let hits = top(s, by_group.max().reshape((b, t, self.groups)), self.chosen_groups).into_iter();
        let chosen = hits.map(|(_, hit)| hit.cast(DType::F32)).reduce(|a, b| a + b).expect("a group is chosen");
        let chosen = s.num(0.0).lt(chosen.reshape((b, t, self.groups, 1usize)));
        chosen.select(by_group, s.num(0.0)).reshape((b, t, self.count))
    }
}

/// Tensors one after the other along the last axis.
fn beside<'g>(parts: impl Iterator<Item = Tensor<'g>>) -> Option<Tensor<'g>> {
    parts.reduce(|a, b| a.concat(-1, b))
}

/// The product of two sizes; the first where it is none that a tensor has, which is an error where it is used.
fn product(a: Dim, b: Dim) -> Dim {
    a.times(b).unwrap_or(a)
}

/// The largest elements along the last axis of x, which are not negative: the number of each, [.., 1], and where it is, [.., E]. Of equal
/// ones the first.
fn top<'g>(s: &Scope<'g>, x: Tensor<'g>, k: usize) -> Vec<(Tensor<'g>, Tensor<'g>)> {
    let number = s.iota(-1, x.dim(-1)).cast(DType::F32);
    let none = s.size(x.dim(-1));
    let mut left = x;
    let mut round = |_| {
        let first = -left.equals(left.max()).select(-number, -none).max();
        let hit = number.equals(first);
        left = hit.select(s.num(-1.0), left);
        (first, hit)
    };
    (0..k).map(&mut round).collect()
}

/// Pairs of a token and its expert, sorted by expert and then as they stand.
struct Sorted<'g> {
    /// Where each pair goes: `i32[B,T,K]`.
    place: Tensor<'g>,
    /// The token that each place has, counted through all rows, `i32[B·T·K]`, and the expert.
    token: Tensor<'g>,
    expert: Tensor<'g>,
}

impl<'g> Sorted<'g> {
    /// experts: `i32[B,T,K]`, each below `count`
    fn new(s: &Scope<'g>, experts: Tensor<'g>, count: usize) -> Sorted<'g> {
        let (b, t, k) = (experts.dim(-3), experts.dim(-2), experts.dim(-1));
        let row = product(t, k);
        let pairs = product(b, row);
        let real = |truth: Tensor<'g>| truth.cast(DType::F32);
        // in a row, a pair stands behind all of a smaller expert and those of its own that come before it
        let key = experts.reshape((b, row)) * s.size(row).cast(DType::I32) + s.iota(-1, row);
        let before = real(key.reshape((b, 1usize, row)).lt(key.reshape((b, row, 1usize)))).sum(); // [B, TK, 1]
        let own = real(s.iota(-1, count).equals(experts.reshape((b, row, 1usize)))); // [B, TK, E]
        let in_row = own.sum_axes(&[-2]); // [B, 1, E]
        let total = in_row.sum_axes(&[-3]); // [1, 1, E]
        let smaller = real(s.iota(-1, count).lt(s.iota(-2, count))); // [E, E]
        let of_smaller = |n: Tensor<'g>| (n * smaller).sum().reshape((n.dim(-3), 1usize, count));
        let earlier = real(s.iota(-2, b).lt(s.iota(-3, b))) * in_row.reshape((1usize, b, count)); // [B, B, E]
        // in all rows, also behind those of its own expert in earlier ones, and behind smaller experts of any
        let shift = of_smaller(total) + earlier.sum_axes(&[-2]) - of_smaller(in_row); // [B, 1, E]
        let place = (before + (own * shift).sum()).cast(DType::I32);
        let token = (s.iota(-2, product(b, t)) + s.iota(-1, k) * s.int(0)).cast(DType::F32).reshape([pairs]);
        let token = s.num(0.0).broadcast([pairs]).apply(Op::ScatterAdd, &[place.reshape([pairs]), token]);
        let end = (of_smaller(total) + total).reshape((1usize, count));
        let expert = real(end.le(s.iota(-2, pairs).cast(DType::F32))).sum();
        Sorted { place: place.reshape((b, t, k)), token: token.cast(DType::I32), expert: expert.cast(DType::I32).reshape([pairs]) }
    }
}

/// Each row of x [N, C] by its own expert's matrix, stored [out, in]: Σₑ [e = expert n] (xₙ Wₑᵀ), [N, F]. w: [E, F, C]
fn own_product<'g>(s: &Scope<'g>, x: Tensor<'g>, w: Tensor<'g>, expert: Tensor<'g>) -> Tensor<'g> {
    let own = s.iota(-2, w.dim(-3)).equals(expert.reshape((x.dim(-2), 1usize, 1usize)));
    own.select(x.contract("nc,efc->nef", w), s.num(0.0)).sum_axes(&[-2]).reshape((x.dim(-2), w.dim(-2)))
}

/// What routers are asked beside, of their logits [L, B, T, E]; tokens that are none, where `mask` `i32[B,T]` is 0, do not count.
#[derive(Clone, Copy)]
pub struct Routers<'g> {
    logits: Tensor<'g>,
    /// 1 for each token that counts, [B, T, 1] or a number.
    counts: Tensor<'g>,
    /// How many count, in all layers.
    rows: Tensor<'g>,
}

impl<'g> Routers<'g> {
    /// The routers of all layers, which are noted one stack after the other.
    #[track_caller]
    pub fn new(s: &Scope<'g>, noted: &[Tensor<'g>], mask: Option<Tensor<'g>>) -> Option<Routers<'g>> {
        let logits = noted.iter().copied().reduce(|a, b| a.concat(-4, b))?;
        let (layers, b, t) = (logits.dim(-4), logits.dim(-3), logits.dim(-2));
        let tokens = mask.map(|mask| mask.reshape((b, t, 1usize)).cast(DType::F32));
        let counts = tokens.unwrap_or(s.num(1.0));
        let all = tokens.map_or_else(|| s.size(product(b, t)), |x| x.sum_axes(&[-1, -2, -3]).reshape([] as [Dim; 0]));
        Some(Routers { logits, counts, rows: all * s.size(layers) })
    }

    /// The further losses that have a weight above 0, each times its weight: how unevenly `chosen` experts a token are chosen, and how large
    /// logits are.
    #[track_caller]
    pub fn losses(&self, s: &Scope<'g>, chosen: usize, imbalance: f64, size: f64) -> Vec<(&'static str, Tensor<'g>)> {
        let imbalanced = (imbalance > 0.0).then(|| ("router_imbalance", self.imbalance(s, chosen) * imbalance));
        let large = (size > 0.0).then(|| ("router_size", self.size() * size));
        imbalanced.into_iter().chain(large).collect()
    }

    /// How unevenly `chosen` experts a token are chosen, `chosen` where all are alike: E Σₑ fₑ Pₑ with the share of tokens that go to each and
    /// its mean probability, over all layers together (Fedus et al. 2021, equations 4 to 6; as `transformers` has it for Mixtral).
    #[track_caller]
    pub fn imbalance(&self, s: &Scope<'g>, chosen: usize) -> Tensor<'g> {
        let p = softmax(self.logits);
        let hits = top(s, p, chosen).into_iter().map(|(_, hit)| hit.cast(DType::F32)).reduce(|a, b| a + b).expect("a token has an expert");
        let share = |x: Tensor<'g>| (x * self.counts).sum_axes(&[-2, -3, -4]) / self.rows;
        number((share(hits) * share(p)).sum() * s.size(p.dim(-1)))
    }

    /// How large logits are: the mean of (log Σ exp)² (Zoph et al. 2022, equation 5).
    #[track_caller]
    pub fn size(&self) -> Tensor<'g> {
        let m = self.logits.max();
        let z = (self.logits - m).exp().sum().log() + m;
        number((z * z * self.counts).sum_axes(&[-1, -2, -3, -4]) / self.rows)
    }
}

/// The one element of a tensor.
fn number(x: Tensor) -> Tensor {
    x.reshape(Dims::new())
}
