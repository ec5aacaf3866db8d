//! Attention of heads, of which groups may share keys and values, in primitive operations.

use crate::architecture::Place;
use crate::layers::{dropout, softmax};
use ir::{Scope, Tensor};

/// x [B, T, n·D] by heads: [B, n, T, D]
#[track_caller]
pub fn heads(x: Tensor, n: usize, depth: usize) -> Tensor {
    x.reshape((x.dim(-3), x.dim(-2), n, depth)).transpose(&[0, 2, 1, 3])
}

/// Each head of x [B, KV, T, D] for a group of query heads, of which there are n: [B, n, T, D]
#[track_caller]
fn shared(x: Tensor, n: usize) -> Tensor {
    let (b, kv, t, d) = (x.dim(-4), x.dim(-3), x.dim(-2), x.dim(-1));
    let group = kv.value().map_or(1, |kv| n / kv as usize);
    if group == 1 {
        return x;
    }
    x.reshape((b, kv, 1usize, t, d)).broadcast((b, kv, group, t, d)).reshape((b, n, t, d))
}

/// softmax(f(q kᵀ)) v of heads [B, H, T, D], merged to [B, T, H·D], and the keys and values with those of the tokens before. Scores
/// [B, H, T, S] are scaled and masked in f; probabilities are dropped with `p`.
#[track_caller]
pub fn attend<'g>(
    s: &Scope<'g>,
    [q, k, v]: [Tensor<'g>; 3],
    place: &Place<'g>,
    p: f64,
    f: impl FnOnce(Tensor<'g>) -> Tensor<'g>,
) -> (Tensor<'g>, [Tensor<'g>; 2]) {
    let [k, v] = place.with_past(k, v);
    (merged(weigh(s, [q, k, v], place, p, f)), [k, v])
}

/// The same of keys and values that are all there are, of heads: [B, H, T, D].
#[track_caller]
pub fn weigh<'g>(s: &Scope<'g>, [q, k, v]: [Tensor<'g>; 3], place: &Place<'g>, p: f64, f: impl FnOnce(Tensor<'g>) -> Tensor<'g>) -> Tensor<'g> {
    let n = q.dim(-3).value().map_or(1, |n| n as usize);
    let scores = f(q.contract("bhtd,bhsd->bhts", shared(k, n)));
    dropout(s, softmax(scores), p, place.key).contract("bhts,bhsd->bhtd", shared(v, n))
}

/// Heads [B, H, T, D] one after the other: [B, T, H·D]
#[track_caller]
pub fn merged(y: Tensor) -> Tensor {
    let [n, d] = [-3, -1].map(|axis| y.dim(axis).value().map_or(1, |n| n as usize));
    y.transpose(&[0, 2, 1, 3]).reshape((y.dim(-4), y.dim(-2), n * d))
}
