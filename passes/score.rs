//! Attention found in what is written: from a product with values down through the softmax to its one product of queries and keys.
//!
//! What stands between is any pointwise mathematics, so that no pattern could list its shapes. It becomes the function that attention
//! carries: masks, biases, caps and positions before the softmax, and behind it what is linear in a probability, as dropout is.

use crate::rule::{Match, Seen};
use crate::term::{Term, World};
use egg::Id;
use ir::{Arg, Attn, Bin, CAPTURED_MAX, DType, Dim, Ein, Labels, Op, Row, SCORE_STEPS_MAX, ScoreFn, Type, broadcast, num};
use std::collections::HashMap;

/// How deep the function may be nested, and how many ops long: a term is walked as a tree.
const DEPTH_MAX: usize = 64;
const SIZE_MAX: usize = 512;

/// The condition of the rule: binds `?q`, `?k` and what is captured, and sets `[?at]` and the scale `[?c]`.
pub(crate) fn attention(m: &mut Match) -> Option<()> {
    let mut walk = Walk { world: m.world(), scores: m.ty("p").clone(), q: m.var("q"), k: m.var("k"), known: HashMap::new(), state: State::default() };
    let (weight, seen) = walk.probability(m.id("p"), 0)?;
    let State { mut f, captured, product, .. } = walk.state;
    f.weight = weight;
    let (f, product) = (f.canonical(), product?);
    let float = |i: u8| m.world().fact(captured[usize::from(i)]).ty.dtype == DType::F32;
    // what multiplies probabilities has no gradient of its own
    let learned = weight.is_some() && f.weight.is_some_and(|w| f.depends(w, |a| matches!(a, Arg::Captured(i) if float(i))));
    if learned || f.captured() != captured.len() {
        return None;
    }
    let at = labels(&product.ein, m.ein("pv"), f)?;
    m.set("at", Op::Attention(at))?;
    m.set("c", num(product.scale.unwrap_or(1.0)))?;
    m.bind("q", product.q);
    m.bind("k", product.k);
    m.bind_rest(captured);
    m.expand("p", &seen);
    Some(())
}

/// Whether both `?a` and `?b` are probabilities, as in differential attention (Ye et al. 2024), of which one is taken from the other.
pub(crate) fn both_attend(m: &mut Match) -> Option<()> {
    let [a, b] = ["a", "b"].map(|v| m.id(v));
    (attends(m, a) && attends(m, b)).then_some(())
}

/// Whether `?p` are probabilities, and `?c` is one for all keys, so that it may multiply what attention gives; `[?r]` and `[?t]` put its
/// axes where those are.
pub(crate) fn factor_of_rows(m: &mut Match) -> Option<()> {
    let (p, e) = (m.id("p"), m.ein("e").clone());
    let (rank, c) = (m.ty("p").rank(), m.ty("c").clone());
    let key = (rank as u8).checked_sub(1)?;
    // rows keep their labels, and one axis of the values stands where the key's was
    let outs: Labels = e.outs();
    let place = |l: &u8| e.a[..rank - 1].iter().position(|x| x == l).map_or(key, |i| i as u8);
    let order: Labels = outs.iter().map(place).collect();
    let one_axis = order.iter().filter(|o| **o == key).count() == 1 && outs.len() == rank && e.a.len() == rank;
    if c.dtype != DType::F32 || c.rank() > rank || c.dim(-1) != Dim::ONE || !one_axis || m.number("c").is_some() || !attends(m, p) {
        return None;
    }
    let dims = (1..=rank as i8).rev().map(|a| c.dim(-a)).collect();
    m.set("r", Op::Reshape(dims))?;
    m.set("t", Op::Transpose(order))
}

/// Whether a value is a softmax, perhaps times something.
fn attends(m: &Match, id: Id) -> bool {
    let is = |n: &Term| n.op == Op::Row(Row::Softmax);
    let inside = |id: &Id| m.world().nodes(m.world().find(*id)).iter().any(is);
    m.world().nodes(m.world().find(id)).iter().any(|n| is(n) || (n.op == Op::Bin(Bin::Mul) && n.args.iter().any(inside)))
}

/// softmax(q kᵀ) v, as labels over one numbering, if these two contractions are that.
fn labels(qk: &Ein, pv: &Ein, f: ScoreFn) -> Option<Attn> {
    let (rank, s) = (qk.out, qk.out.checked_sub(1)?);
    let holds = rank >= 2 && pv.a.len() == usize::from(rank) && qk.b.contains(&s) && !qk.a.contains(&s);
    let summed: Labels = pv.contracted();
    if !holds || summed[..] != [*pv.a.get(usize::from(s))?] || !pv.b.contains(&summed[0]) {
        return None;
    }
    let mut map: Vec<(u8, u8)> = pv.a.iter().enumerate().map(|(i, l)| (*l, i as u8)).collect();
    let mut next = qk.a.iter().chain(&qk.b).max()? + 1;
    for l in &pv.b {
        if !map.iter().any(|m| m.0 == *l) {
            map.push((*l, next));
            next += 1;
        }
    }
    let relabel = |ls: &[u8]| ls.iter().map(|l| map.iter().find(|m| m.0 == *l).map(|m| m.1)).collect::<Option<Labels>>();
    let (v, o) = (relabel(&pv.b)?, relabel(&pv.outs())?);
    // a row of scores is a query's: every label but the keys' is one of q's
    let rows = (0..rank - 1).all(|l| qk.a.contains(&l));
    rows.then(|| Attn { q: qk.a.clone(), k: qk.b.clone(), v, o, scores: rank, f: f.into(), group: 1, head: 0 })
}

/// The product of queries and keys, and the number it is multiplied by.
#[derive(Clone, PartialEq)]
struct Product {
    ein: Ein,
    q: Id,
    k: Id,
    scale: Option<f64>,
}

/// What was found so far.
#[derive(Clone, Default)]
struct State {
    f: ScoreFn,
    captured: Vec<Id>,
    product: Option<Product>,
    /// Ops of the term as a tree.
    size: usize,
}

/// A walk down a term. Where a class has several nodes, the first is taken that leads somewhere.
struct Walk<'a> {
    world: &'a dyn World,
    /// The type of the scores.
    scores: Type,
    q: Seen,
    k: Seen,
    /// Where values are that have been walked.
    known: HashMap<Id, (Arg, Seen)>,
    state: State,
}

impl Walk<'_> {
    fn ty(&self, id: Id) -> &Type {
        &self.world.fact(id).ty
    }

    fn number(&self, id: Id) -> Option<f64> {
        self.world.fact(id).number.map(f64::from_bits)
    }

    /// Tries a walk; what a failed one has found is forgotten.
    fn attempt<T>(&mut self, walk: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let (state, known) = (self.state.clone(), self.known.clone());
        let found = walk(self);
        if found.is_none() {
            (self.state, self.known) = (state, known);
        }
        found
    }

    /// From what meets the values to the softmax: the factor of a probability, where there is one, and the term.
    fn probability(&mut self, id: Id, depth: usize) -> Option<(Option<Arg>, Seen)> {
        let nodes: Vec<Term> = self.world.nodes(self.world.find(id)).to_vec();
        nodes.iter().filter(|_| depth < 8).find_map(|n| self.attempt(|w| w.probability_node(n, depth)))
    }

    fn probability_node(&mut self, n: &Term, depth: usize) -> Option<(Option<Arg>, Seen)> {
        match (&n.op, &n.args[..]) {
            (Op::Row(Row::Softmax), &[x]) => {
                let (score, seen) = self.value(x, 0)?;
                self.state.f.score = score;
                Some((None, Seen::Node(n.op.clone(), vec![seen])))
            }
            (Op::Bin(Bin::Mul), &[a, b]) => {
                let first = self.attempt(|w| w.factor((a, b), depth)).map(|(w, a, b)| (w, vec![a, b]));
                let (weight, args) = first.or_else(|| self.factor((b, a), depth).map(|(w, b, a)| (w, vec![a, b])))?;
                Some((Some(weight), Seen::Node(n.op.clone(), args)))
            }
            (Op::Select, &[p, a, b]) => {
                let kept = if self.number(b) == Some(0.0) { a } else { b };
                let dropped = if kept == a { b } else { a };
                let zero = self.number(dropped).filter(|x| *x == 0.0)?;
                let (weight, inner) = self.probability(kept, depth + 1)?;
                let (condition, when) = self.value(p, 0)?;
                let weight = weight.unwrap_or_else(|| self.state.f.step(num(1.0), &[]));
                let zero = (self.state.f.step(num(zero), &[]), self.constant(dropped)?);
                let (args, terms) = if kept == a {
                    ([condition, weight, zero.0], vec![when, inner, zero.1])
                } else {
                    ([condition, zero.0, weight], vec![when, zero.1, inner])
                };
                Some((Some(self.state.f.step(Op::Select, &args)), Seen::Node(n.op.clone(), terms)))
            }
            (Op::Slice(-1, lo, hi), &[p]) => self.beside_sink(n, p, (*lo, *hi)),
            _ => None,
        }
    }

    /// The probabilities of the keys, of a softmax that has one more score a row at its start or its end.
    fn beside_sink(&mut self, n: &Term, p: Id, (lo, hi): (u32, u32)) -> Option<(Option<Arg>, Seen)> {
        let softmax = self.node_of(p, |op| *op == Op::Row(Row::Softmax))?;
        let both = self.node_of(softmax.args[0], |op| *op == Op::Concat(-1))?;
        let &[a, b] = &both.args[..] else { return None };
        let keys = self.scores.dim(-1).value()?;
        let (x, sink) = if lo == 0 { (a, b) } else { (b, a) };
        let one = self.ty(sink).dim(-1) == Dim::ONE && lo <= 1 && u64::from(hi - lo) == keys && self.ty(x).dims == self.scores.dims;
        let (score, seen) = self.value(x, 0).filter(|_| one)?;
        let (at, term) = self.narrow(sink)?;
        self.state.f.score = score;
        self.state.f.sink = Some(at);
        let args = if lo == 0 { vec![seen, term] } else { vec![term, seen] };
        let whole = Seen::Node(softmax.op, vec![Seen::Node(both.op, args)]);
        Some((None, Seen::Node(n.op.clone(), vec![whole])))
    }

    /// A captured operand, as it is before it is broadcast.
    fn narrow(&mut self, id: Id) -> Option<(u8, Seen)> {
        let inner = self.node_of(id, |op| matches!(op, Op::Broadcast(_)));
        let others = self.state.captured.len();
        let (arg, seen) = self.capture(self.world.find(inner.as_ref().map_or(id, |n| n.args[0])))?;
        let Arg::Captured(i) = arg else { return None };
        if usize::from(i) < others {
            return None;
        }
        Some((i, inner.map_or(seen.clone(), |n| Seen::Node(n.op, vec![seen]))))
    }

    /// The first node of a class whose op is one.
    fn node_of(&self, id: Id, is: impl Fn(&Op) -> bool) -> Option<Term> {
        self.world.nodes(self.world.find(id)).iter().find(|n| is(&n.op)).cloned()
    }

    /// A probability times something: the factor and both terms.
    fn factor(&mut self, (p, x): (Id, Id), depth: usize) -> Option<(Arg, Seen, Seen)> {
        let (weight, p) = self.probability(p, depth + 1)?;
        let (x, term) = self.value(x, 0)?;
        let weight = weight.map_or(x, |w| self.state.f.step(Op::Bin(Bin::Mul), &[w, x]));
        Some((weight, p, term))
    }

    fn constant(&self, id: Id) -> Option<Seen> {
        let nodes = self.world.nodes(self.world.find(id));
        nodes.iter().find(|n| matches!(n.op, Op::Const(..))).map(|n| Seen::Node(n.op.clone(), vec![]))
    }

    /// A value over the scores: a number, a position, the product, an op of such, or else an operand that is captured.
    fn value(&mut self, id: Id, depth: usize) -> Option<(Arg, Seen)> {
        let id = self.world.find(id);
        if let Some((arg, seen)) = self.known.get(&id).cloned() {
            self.state.size += size(&seen);
            return (self.state.size < SIZE_MAX).then_some((arg, seen));
        }
        let nodes: Vec<Term> = self.world.nodes(id).to_vec();
        let walked = nodes.iter().filter(|_| depth < DEPTH_MAX && self.is_inside(id)).collect::<Vec<_>>();
        let found = walked.into_iter().find_map(|n| self.attempt(|w| w.node(n, depth)));
        let found = found.or_else(|| self.capture(id))?;
        self.state.size += 1;
        self.known.insert(id, found.clone());
        (self.state.size < SIZE_MAX && self.state.f.steps.len() < SCORE_STEPS_MAX).then_some(found)
    }

    /// Whether a value is computed for each score anew: where it differs from score to score, or is cheap and says what is visible.
    fn is_inside(&self, id: Id) -> bool {
        let ty = self.ty(id);
        let of_pairs = ty.dim(-1) == self.scores.dim(-1) && ty.dim(-2) == self.scores.dim(-2) && ty.rank() >= 2;
        of_pairs || self.number(id).is_some() || matches!(ty.dtype, DType::I32 | DType::Bool)
    }

    fn node(&mut self, n: &Term, depth: usize) -> Option<(Arg, Seen)> {
        let leaf = |arg: Arg| Some((arg, Seen::Node(n.op.clone(), vec![])));
        match (&n.op, &n.args[..]) {
            (Op::Iota(-1, d), _) if *d == self.scores.dim(-1) => leaf(Arg::Key),
            (Op::Iota(-2, d), _) if *d == self.scores.dim(-2) => leaf(Arg::Query),
            (Op::Const(..), _) => {
                let step = self.state.f.step(n.op.clone(), &[]);
                leaf(step)
            }
            (Op::Contract(_), _) => self.product(n, None).map(|seen| (Arg::Score, seen)),
            (Op::Bin(Bin::Mul), &[a, b]) => {
                let scaled = self.scaled(a, b).map(|(x, c)| vec![x, c]).or_else(|| self.scaled(b, a).map(|(x, c)| vec![c, x]));
                match scaled {
                    Some(args) => Some((Arg::Score, Seen::Node(n.op.clone(), args))),
                    None => self.step(n, depth),
                }
            }
            // whoever reads it broadcasts it
            (Op::Broadcast(_), &[x]) => self.value(x, depth + 1).map(|(arg, seen)| (arg, Seen::Node(n.op.clone(), vec![seen]))),
            (Op::Un(_) | Op::Bin(_) | Op::Select | Op::Cast(_) | Op::RandomBits(_) | Op::StopGradient, _) => self.step(n, depth),
            _ => None,
        }
    }

    fn step(&mut self, n: &Term, depth: usize) -> Option<(Arg, Seen)> {
        let args = n.args.iter().map(|a| self.value(*a, depth + 1)).collect::<Option<Vec<_>>>()?;
        let (args, seen): (Vec<Arg>, Vec<Seen>) = args.into_iter().unzip();
        Some((self.state.f.step(n.op.clone(), &args), Seen::Node(n.op.clone(), seen)))
    }

    /// A product times a number.
    fn scaled(&mut self, x: Id, c: Id) -> Option<(Seen, Seen)> {
        let scale = self.number(c)?;
        let (x, constant) = (self.world.find(x), self.constant(c)?);
        let nodes: Vec<Term> = self.world.nodes(x).to_vec();
        let products = nodes.iter().filter(|n| matches!(n.op, Op::Contract(_)));
        products.into_iter().find_map(|n| self.product(n, Some(scale))).map(|seen| (seen, constant))
    }

    /// The product of queries and keys. There is one; another of its kind is an operand like any.
    fn product(&mut self, n: &Term, scale: Option<f64>) -> Option<Seen> {
        let (Op::Contract(e), &[a, b]) = (&n.op, &n.args[..]) else { return None };
        let (query, key) = (e.out.checked_sub(2)?, e.out.checked_sub(1)?);
        let swapped = e.a.contains(&key);
        let (ein, q, k) = if swapped { (e.swap(), b, a) } else { (e.clone(), a, b) };
        let whole = usize::from(e.out) == self.scores.rank() && !ein.a.contains(&key) && ein.a.contains(&query) && !ein.b.contains(&query);
        let dims = |id: Id, labels: &Labels| labels.iter().position(|l| *l == key).map(|i| self.ty(id).dims[i]);
        let fits = whole && dims(k, &ein.b) == Some(self.scores.dim(-1)) && self.dims_of(&ein, q, k)? == self.scores.dims[..];
        let product = Product { ein, q: self.world.find(q), k: self.world.find(k), scale };
        if !fits || self.state.product.as_ref().is_some_and(|have| *have != product) {
            return None;
        }
        self.state.product = Some(product);
        let terms = if swapped { vec![self.k.clone(), self.q.clone()] } else { vec![self.q.clone(), self.k.clone()] };
        Some(Seen::Node(n.op.clone(), terms))
    }

    /// The dims of a contraction's result.
    fn dims_of(&self, ein: &Ein, a: Id, b: Id) -> Option<Vec<Dim>> {
        let size = |l: u8| {
            let of = |labels: &Labels, id: Id| labels.iter().position(|x| *x == l).map(|i| self.ty(id).dims[i]);
            of(&ein.a, a).or_else(|| of(&ein.b, b))
        };
        (0..ein.out).map(size).collect()
    }

    /// An operand of attention: whatever broadcasts over the scores.
    fn capture(&mut self, id: Id) -> Option<(Arg, Seen)> {
        let ty = self.ty(id);
        let fits = ty.is_tensor() && !ty.dtype.is_half() && broadcast(&[ty, &self.scores]).ok()? == self.scores.dims;
        let at = self.state.captured.iter().position(|c| *c == id).unwrap_or(self.state.captured.len());
        if !fits || at >= usize::from(CAPTURED_MAX) {
            return None;
        }
        if at == self.state.captured.len() {
            self.state.captured.push(id);
        }
        Some((Arg::Captured(at as u8), Seen::Rest(at as u8)))
    }
}

/// Ops of a term.
fn size(seen: &Seen) -> usize {
    match seen {
        Seen::Var(_) | Seen::Rest(_) => 1,
        Seen::Node(_, args) => 1 + args.iter().map(size).sum::<usize>(),
    }
}
