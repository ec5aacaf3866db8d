//! What each composite means, in core ops: its evaluation, its gradient check and its lowering all come from here.

use crate::builder::{Builder, Scope, Tensor};
use crate::graph::Func;
use crate::infer::captured_gradient;
use crate::op::{Attn, Ein, Labels, Lie, Op, Row};
use crate::score::{Arg, ScoreFn};
use crate::types::{DType, Dim, Dims, Type};

/// The body of a composite for operands of these types: inputs in operand order, one result a member of the op's type.
/// `None` for a core op.
pub fn definition(op: &Op, types: &[&Type]) -> Option<Func> {
    let b = Builder::default();
    let s = b.scope();
    let args: Vec<Tensor> = types.iter().enumerate().map(|(i, t)| s.input(&i.to_string(), t.dtype, t.dims.clone())).collect();
    let results = match op {
        Op::Row(row) => vec![define_row(*row, &s, &args)],
        Op::Attention(a) => {
            let mut results = attention(a, &s, &args.iter().map(whole).collect::<Vec<_>>());
            if types[0].dtype.is_half() {
                results[0] = results[0].cast(types[0].dtype);
            }
            results
        }
        Op::AttentionBwd(a) => attention_bwd(a, &s, &args.iter().map(whole).collect::<Vec<_>>()),
        Op::Grouped(lie) => vec![grouped(*lie, &s, [whole(&args[0]), whole(&args[1])], args[2])],
        Op::GroupedSum(groups) => vec![grouped_sum(*groups, &s, [whole(&args[0]), whole(&args[1])], args[2])],
        _ => return None,
    };
    for (i, r) in results.iter().enumerate() {
        b.output(&i.to_string(), *r);
    }
    let mut graph = b.finish().unwrap_or_else(|errors| panic!("the definition of {op} is ill-typed: {errors}"));
    graph.funcs.pop()
}

/// In 32 bits, as arithmetic is.
fn whole<'g>(x: &Tensor<'g>) -> Tensor<'g> {
    if x.ty().dtype.is_half() { x.cast(DType::F32) } else { *x }
}

/// Each row composite. x̂ is the normalised x.
fn define_row<'g>(row: Row, s: &Scope<'g>, a: &[Tensor<'g>]) -> Tensor<'g> {
    match (row, a) {
        (Row::Softmax, &[x]) => {
            let e = (x - x.max()).exp();
            e / e.sum()
        }
        (Row::SoftmaxBwd, &[y, dy]) => y * (dy - (dy * y).sum()),
        (Row::LogSumExp, &[x]) => logsumexp(s, x),
        (Row::LayerNorm, &[x, eps]) => {
            let (centred, rstd) = centre(x, eps);
            centred * rstd
        }
        (Row::LayerNormBwd, &[x, eps, dy]) => {
            let (centred, rstd) = centre(x, eps);
            let y = centred * rstd;
            (dy - dy.mean() - y * (dy * y).mean()) * rstd
        }
        (Row::RmsNorm, &[x, eps]) => x * rms_rstd(x, eps),
        (Row::RmsNormBwd, &[x, eps, dy]) => {
            let rstd = rms_rstd(x, eps);
            let y = x * rstd;
            (dy - y * (dy * y).mean()) * rstd
        }
        // of e^−|x|: where that of −x is ∞, its gradient would be 0 · ∞
        (Row::Sigmoid, &[x]) => {
            let below = x.lt(s.num(0.0));
            let e = below.select(x, -x).exp();
            below.select(e, s.num(1.0)) / (e + 1.0)
        }
        (Row::Gelu, &[x]) => x * (gelu_inner(x) * 2.0).row(Row::Sigmoid, &[]),
        (Row::GeluGrad, &[x]) => {
            let p = (gelu_inner(x) * 2.0).row(Row::Sigmoid, &[]);
            // far out the slope meets p (1 − p) = 0, and must not be ∞
            let square = (x * x).minimum(s.num(1e4));
            let slope = (square * (3.0 * 0.044715) + 1.0) * (2.0 * GELU_SCALE);
            p + x * p * (-p + 1.0) * slope
        }
        (Row::Silu, &[x]) => x * x.row(Row::Sigmoid, &[]),
        (Row::Swiglu, &[x, y]) => x * x.row(Row::Sigmoid, &[]) * y,
        (Row::Rope, &[x, cos, sin]) => {
            let [left, right] = x.chunks::<2>();
            (left * cos - right * sin).concat(-1, right * cos + left * sin)
        }
        // exact whatever is common to a row: it is taken off before anything is rounded
        (Row::CrossEntropy, &[x, labels]) => {
            let counted = s.int(0).le(labels);
            // rows that are ignored become ones whose gradient is finite
            let x = counted.select(x, s.num(0.0));
            let m = x.max();
            let hit = s.iota(-1, x.dim(-1)).equals(labels);
            let loss = (x - m).exp().sum().log() - (hit.select(x, s.num(0.0)).sum() - m);
            counted.select(loss, s.num(0.0))
        }
        (Row::CrossEntropyBwd, &[x, labels, g]) => {
            let (counted, zero) = (s.int(0).le(labels), s.num(0.0));
            let x = counted.select(x, zero);
            let e = (x - x.max()).exp();
            let hit = s.iota(-1, x.dim(-1)).equals(labels);
            (e * e.sum().recip() - hit.select(s.num(1.0), zero)) * counted.select(g, zero)
        }
        _ => unreachable!("the type rule has checked the number of operands of {row:?}"),
    }
}

/// Every row by every matrix [N, E, F], of which those of a row's own group are kept.
fn grouped<'g>(lie: Lie, s: &Scope<'g>, [a, w]: [Tensor<'g>; 2], group: Tensor<'g>) -> Tensor<'g> {
    let (n, groups) = (a.dim(-2), w.dim(-3));
    let all = a.contract(if lie == Lie::Plain { "nc,ecf->nef" } else { "nc,efc->nef" }, w);
    let own = s.iota(-2, groups).equals(group.reshape((n, 1usize, 1usize)));
    own.select(all, s.num(0.0)).sum_axes(&[-2]).reshape((n, all.dim(-1)))
}

/// Sums over all rows [E, C, F], those of other groups 0.
fn grouped_sum<'g>(groups: Dim, s: &Scope<'g>, [a, b]: [Tensor<'g>; 2], group: Tensor<'g>) -> Tensor<'g> {
    let (n, c) = (a.dim(-2), a.dim(-1));
    let own = s.iota(-2, groups).equals(group.reshape((n, 1usize, 1usize)));
    let of_group = |x: Tensor<'g>, width: Dim| own.select(x.reshape((n, 1usize, width)), s.num(0.0));
    of_group(a, c).contract("nec,nef->ecf", of_group(b, b.dim(-1)))
}

/// √(2/π), in GELU's tanh form (Hendrycks & Gimpel 2016, equation 2).
const GELU_SCALE: f64 = 0.797_884_560_802_865_4;

fn gelu_inner(x: Tensor) -> Tensor {
    (x + x * x * x * 0.044715) * GELU_SCALE
}

/// log Σ exp x: −∞ of a row of them, and ∞ beside one, for what is taken off is finite.
fn logsumexp<'g>(s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
    let m = x.max();
    let m = m.abs().lt(s.num(f64::INFINITY)).select(m, s.num(0.0));
    (x - m).exp().sum().log() + m
}

fn centre<'g>(x: Tensor<'g>, eps: Tensor<'g>) -> (Tensor<'g>, Tensor<'g>) {
    let centred = x - x.mean();
    (centred, ((centred * centred).mean() + eps).rsqrt())
}

fn rms_rstd<'g>(x: Tensor<'g>, eps: Tensor<'g>) -> Tensor<'g> {
    ((x * x).mean() + eps).rsqrt()
}

/// Labels of q, k, v, o where grouped heads are split in two: the group's own axis (the head label) and the query within it.
struct Split {
    attn: Attn,
    within: Option<u8>,
}

impl Split {
    fn new(a: &Attn) -> Split {
        let used = a.q.iter().chain(&a.k).chain(&a.v).chain(&a.o).chain(&a.rows()).max().copied().unwrap_or(0);
        Split { attn: a.clone(), within: (a.group > 1).then_some(used.max(a.scores) + 1) }
    }

    /// Labels with the query-within-group label after the head.
    fn wide(&self, labels: &[u8]) -> Labels {
        labels.iter().flat_map(|l| std::iter::once(*l).chain(self.within.filter(|_| *l == self.attn.head))).collect()
    }

    /// Dims with the head axis split in (groups, queries within).
    fn wide_dims(&self, labels: &[u8], dims: &[Dim]) -> Dims {
        let split = |(l, d): (&u8, &Dim)| match self.within {
            Some(_) if *l == self.attn.head => vec![Dim::from(d.size() / self.attn.group as usize), Dim::from(self.attn.group)],
            _ => vec![*d],
        };
        labels.iter().zip(dims).flat_map(split).collect()
    }

    fn widen<'g>(&self, x: Tensor<'g>, labels: &[u8]) -> Tensor<'g> {
        let dims = x.ty().dims;
        let wide = self.wide_dims(labels, &dims);
        if wide == dims { x } else { x.reshape(wide) }
    }

    fn scores(&self) -> Labels {
        self.wide(&(0..self.attn.scores).collect::<Labels>())
    }

    fn rows(&self) -> Labels {
        self.wide(&self.attn.rows())
    }

    /// scale · q kᵀ, with heads whole.
    fn product<'g>(&self, q: Tensor<'g>, k: Tensor<'g>, scale: Tensor<'g>) -> Tensor<'g> {
        let a = &self.attn;
        let ein = Ein::new(&self.wide(&a.q), &a.k, &self.scores());
        self.whole(self.widen(q, &a.q).apply(Op::Contract(ein), &[k]) * scale, &self.scores())
    }

    /// A value whose grouped heads are split, with heads whole again.
    fn whole<'g>(&self, x: Tensor<'g>, wide: &[u8]) -> Tensor<'g> {
        let mut out = Dims::new();
        for (l, d) in wide.iter().zip(&x.ty().dims) {
            match (self.within, out.last_mut()) {
                (Some(w), Some(last)) if *l == w => *last = Dim::from(last.size() * d.size()),
                _ => out.push(*d),
            }
        }
        if out == x.ty().dims { x } else { x.reshape(out) }
    }

    /// A value that has the axes of the scores, with grouped heads split.
    fn split<'g>(&self, x: Tensor<'g>) -> Tensor<'g> {
        self.widen(x, &(0..self.attn.scores).collect::<Labels>())
    }
}

/// What a score's function gives for scores x, captured operands and, of a derivative, the cotangent.
struct Scored<'g> {
    score: Tensor<'g>,
    weight: Option<Tensor<'g>>,
    dscore: Option<Tensor<'g>>,
    dcaptured: Vec<(u8, Tensor<'g>)>,
}

fn apply<'g>(f: &ScoreFn, s: &Scope<'g>, x: Tensor<'g>, captured: &[Tensor<'g>], g: Tensor<'g>) -> Scored<'g> {
    let (query, key) = (s.iota(-2, x.dim(-2)), s.iota(-1, x.dim(-1)));
    let mut steps: Vec<Tensor<'g>> = vec![];
    let get = |arg: Arg, steps: &[Tensor<'g>]| match arg {
        Arg::Score => x,
        Arg::Query => query,
        Arg::Key => key,
        Arg::Captured(i) => captured[usize::from(i)],
        Arg::Cotangent => g,
        Arg::Step(i) => steps[usize::from(i)],
    };
    for step in &f.steps {
        let args: Vec<Tensor<'g>> = step.args.iter().map(|a| get(*a, &steps)).collect();
        let value = match args.split_first() {
            Some((first, rest)) => first.apply(step.op.clone(), rest),
            None => s.constant(step.op.clone()),
        };
        steps.push(value);
    }
    let result = |arg: Arg| get(arg, &steps);
    Scored {
        score: result(f.score),
        weight: f.weight.map(result),
        dscore: f.dscore.map(result),
        dcaptured: f.dcaptured.iter().map(|(i, d)| (*i, result(*d))).collect(),
    }
}

/// Rows whose scores are all −∞ have the result 0 and a log-sum-exp of −∞.
fn attention<'g>(a: &Attn, s: &Scope<'g>, args: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
    let [q, k, v, scale, captured @ ..] = args else { unreachable!("the type rule has checked the number of operands") };
    let split = Split::new(a);
    let x = split.product(*q, *k, *scale);
    let f = apply(&a.f, s, x, captured, x);
    let (x, zero) = (f.score, s.num(0.0));
    let m = x.max().maximum(s.num(-3.0e38));
    let sink = a.f.sink.map(|i| captured[usize::from(i)]);
    let m = sink.map_or(m, |z| m.maximum(z));
    let e = (x - m).exp();
    let total = sink.map_or(e.sum(), |z| e.sum() + (z - m).exp());
    let p = e / total.equals(zero).select(s.num(1.0), total);
    let p = f.weight.map_or(p, |w| p * w);
    let o = split.split(p).apply(Op::Contract(Ein::new(&split.scores(), &a.v, &split.wide(&a.o))), &[*v]);
    let lse = split.split(total.log() + m);
    vec![split.whole(o, &split.wide(&a.o)), split.whole(lse.reshape(row_dims(&split, lse)), &split.rows())]
}

/// The dims of a value that has one number a row, without the axis of size 1.
fn row_dims(split: &Split, x: Tensor) -> Dims {
    x.ty().dims.iter().copied().take(split.rows().len()).collect()
}

/// FlashAttention-2's backward (Dao 2023, equations 3 and 4): P = exp(S − L), dS = P ∘ (dO Vᵀ − rowsum(dO ∘ O)), through f. A hidden
/// key has no gradient, whatever f's derivative is there.
fn attention_bwd<'g>(a: &Attn, s: &Scope<'g>, args: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
    let [q, k, v, o, lse, g, scale, captured @ ..] = args else { unreachable!("the type rule has checked the number of operands") };
    let split = Split::new(a);
    let x = split.product(*q, *k, *scale);
    let scored = apply(&a.f, s, x, captured, x);
    let (zero, hidden) = (s.num(0.0), scored.score.equals(s.num(f64::NEG_INFINITY)));
    let rows: Dims = x.ty().dims.iter().enumerate().map(|(i, d)| if i + 1 == x.ty().rank() { Dim::ONE } else { *d }).collect();
    let p = hidden.select(zero, (scored.score - lse.reshape(rows.clone())).exp());
    let (wo, scores) = (split.wide(&a.o), split.scores());
    let (g, o) = (split.widen(*g, &a.o), split.widen(*o, &a.o));
    let d = g.apply(Op::Contract(Ein::new(&wo, &wo, &split.rows())), &[o]).reshape(rows);
    let dp = split.whole(g.apply(Op::Contract(Ein::new(&wo, &a.v, &scores)), &[*v]), &scores);
    let dp = scored.weight.map_or(dp, |w| dp * w);
    let derived = apply(&a.f, s, x, captured, p * (dp - d));
    let seen = |x: Tensor<'g>| hidden.select(zero, x);
    let ds = split.split(seen(derived.dscore.unwrap_or(p * (dp - d))) * *scale);
    let wq = split.wide(&a.q);
    let dq = ds.apply(Op::Contract(Ein::new(&scores, &a.k, &wq)), &[*k]).reshape(q.ty().dims);
    let dk = ds.apply(Op::Contract(Ein::new(&scores, &wq, &a.k)), &[split.widen(*q, &a.q)]);
    let weighted = split.split(scored.weight.map_or(p, |w| p * w));
    let dv = weighted.apply(Op::Contract(Ein::new(&scores, &wo, &a.v)), &[g]);
    let of_captured = derived.dcaptured.iter().map(|(i, d)| sum_along(seen(*d), captured_gradient(&captured[usize::from(*i)].ty(), &x.ty().dims)));
    [dq, dk, dv].into_iter().chain(of_captured).collect()
}

/// Sums over queries and keys where there is to be one value for all.
fn sum_along(x: Tensor, dims: Dims) -> Tensor {
    let rank = dims.len();
    let axes: Vec<i8> = [-2i8, -1].into_iter().filter(|a| dims[rank - usize::from(a.unsigned_abs())] == Dim::ONE && x.dim(*a) != Dim::ONE).collect();
    if axes.is_empty() { x } else { x.sum_axes(&axes) }
}
