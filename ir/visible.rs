//! Which keys a query can see, derived from the mask: comparisons of whole numbers that are affine in the key, joined by "and" and "or".
//!
//! A mask is where a [`ScoreFn`] selects −∞. What it says of the key becomes bounds that do not depend on the key, so that a kernel goes
//! over the keys between them and no others; what bounds say entirely is taken out of the function.

use crate::op::{Bin, Op};
use crate::score::{Arg, ScoreFn};
use crate::types::{DType, Dim, Type};

/// A query sees no key before `from` and none after `to`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Visible {
    /// The first key, an `i32` that depends on no key; none is hidden at the start where this is missing.
    pub from: Option<Arg>,
    /// The last key, likewise.
    pub to: Option<Arg>,
}

/// Bounds, and whether they say all that the condition says.
#[derive(Clone, Copy)]
struct Bounds {
    seen: Visible,
    exact: bool,
}

const NOTHING_KNOWN: Bounds = Bounds { seen: Visible { from: None, to: None }, exact: false };
/// Numbers that stay far from where whole numbers of 32 bits wrap.
const SMALL: f64 = (1 << 29) as f64;

impl ScoreFn {
    /// The function without the masks that bounds say entirely, and the bounds, whose steps stand at its end. The types are those of the
    /// captured operands.
    pub fn visible(&self, captured: &[&Type]) -> (ScoreFn, Visible) {
        let of_rows = captured.iter().map(|x| x.dim(-1) == Dim::ONE).collect();
        let mut masks = Masks { f: self.clone(), of_rows };
        let mut seen = Visible::default();
        masks.f.score = masks.unmasked(self.score, &mut seen);
        (masks.f, seen)
    }

    /// The share of all pairs of a query and a key that bounds leave, as far as they depend on positions alone.
    pub fn share(&self, queries: usize, keys: usize, captured: &[&Type]) -> f64 {
        let (f, seen) = self.visible(captured);
        let samples = queries.min(64);
        let row = |s: usize| {
            let at = (s * queries / samples.max(1)) as i64;
            let bound = |b: Option<Arg>, else_: i64| b.and_then(|b| f.whole(b, at)).unwrap_or(else_).clamp(-1, keys as i64);
            (bound(seen.to, keys as i64 - 1).min(keys as i64 - 1) - bound(seen.from, 0).max(0) + 1).max(0) as f64
        };
        if samples * keys == 0 { 1.0 } else { (0..samples).map(row).sum::<f64>() / (samples * keys) as f64 }
    }

    /// The op of a step, and its operands where it has three or fewer; what is missing is the score.
    fn op(&self, arg: Arg) -> Option<(Op, [Arg; 3])> {
        let Arg::Step(i) = arg else { return None };
        let step = &self.steps[usize::from(i)];
        let operand = |k: usize| step.args.get(k).copied().unwrap_or(Arg::Score);
        Some((step.op.clone(), [operand(0), operand(1), operand(2)]))
    }

    /// The value of a whole number that depends on the query alone.
    fn whole(&self, arg: Arg, query: i64) -> Option<i64> {
        if arg == Arg::Query {
            return Some(query);
        }
        let (op, [a, b, _]) = self.op(arg)?;
        if let Some(x) = op.number() {
            return Some(x as i64);
        }
        let Op::Bin(bin) = op else { return None };
        let (a, b) = (self.whole(a, query)?, self.whole(b, query)?);
        match bin {
            Bin::Add => Some(a + b),
            Bin::Sub => Some(a - b),
            Bin::Maximum => Some(a.max(b)),
            Bin::Minimum => Some(a.min(b)),
            Bin::Mul | Bin::Div | Bin::Pow | Bin::Lt | Bin::Le | Bin::Eq | Bin::And | Bin::Shr => None,
        }
    }
}

/// A function whose masks are looked at.
struct Masks {
    f: ScoreFn,
    /// Whether a captured operand is one for all keys.
    of_rows: Vec<bool>,
}

impl Masks {
    fn op(&self, arg: Arg) -> Option<(Op, [Arg; 3])> {
        self.f.op(arg)
    }

    fn step(&mut self, op: Op, args: &[Arg]) -> Arg {
        self.f.step(op, args)
    }

    /// A score without the masks around it that bounds say.
    fn unmasked(&mut self, score: Arg, seen: &mut Visible) -> Arg {
        let Some((Op::Select, [condition, a, b])) = self.op(score) else { return score };
        let (positive, inside, hidden) = match (self.is_lowest(a), self.is_lowest(b)) {
            (false, true) => (true, a, b),
            (true, false) => (false, b, a),
            (true, true) | (false, false) => return score,
        };
        let bounds = self.bounds(condition, positive, 0);
        *seen = self.both(*seen, bounds.seen);
        let inside = self.unmasked(inside, seen);
        let (yes, no) = if positive { (inside, hidden) } else { (hidden, inside) };
        if bounds.exact { inside } else { self.step(Op::Select, &[condition, yes, no]) }
    }

    fn is_lowest(&self, arg: Arg) -> bool {
        self.op(arg).and_then(|(op, _)| op.number()) == Some(f64::NEG_INFINITY)
    }

    /// The bounds of a condition, or of its negation. Conditions nest; where they do too deep, nothing is known.
    fn bounds(&mut self, condition: Arg, holds: bool, depth: usize) -> Bounds {
        let Some((op, [a, b, c])) = self.op(condition).filter(|_| depth < 32) else { return NOTHING_KNOWN };
        match op {
            Op::Bin(Bin::Le) if holds => self.compare(a, b, false),
            Op::Bin(Bin::Lt) if holds => self.compare(a, b, true),
            Op::Bin(Bin::Le) => self.compare(b, a, true),
            Op::Bin(Bin::Lt) => self.compare(b, a, false),
            Op::Bin(Bin::Eq) => match (self.truth(a), self.truth(b)) {
                (Some(x), None) => self.bounds(b, holds == x, depth + 1),
                (None, Some(x)) => self.bounds(a, holds == x, depth + 1),
                _ if holds => {
                    let (below, above) = (self.compare(a, b, false), self.compare(b, a, false));
                    self.and(below, above)
                }
                _ => NOTHING_KNOWN,
            },
            Op::Select => {
                // (p and b) or (not p and c), of which one part is known
                let (p, x, joined) = match (self.truth(b), self.truth(c)) {
                    (None, Some(false)) => ((a, true), b, true),
                    (Some(true), None) => ((a, true), c, false),
                    (Some(false), None) => ((a, false), c, true),
                    (None, Some(true)) => ((a, false), b, false),
                    _ => return NOTHING_KNOWN,
                };
                let (p, x) = (self.bounds(p.0, p.1 == holds, depth + 1), self.bounds(x, holds, depth + 1));
                if joined == holds { self.and(p, x) } else { self.or(p, x) }
            }
            _ => NOTHING_KNOWN,
        }
    }

    /// A truth that is known: a constant, or what a comparison of whole constants says.
    fn truth(&self, arg: Arg) -> Option<bool> {
        let (op, [a, b, _]) = self.op(arg)?;
        if let Op::Const(x, DType::Bool) = op {
            return Some(x != 0);
        }
        let Op::Bin(bin) = op else { return None };
        let whole = |x: Arg| self.op(x).and_then(|(op, _)| if let Op::Const(_, DType::I32) = op { op.number() } else { None });
        let (a, b) = (whole(a)?, whole(b)?);
        match bin {
            Bin::Lt => Some(a < b),
            Bin::Le => Some(a <= b),
            Bin::Eq => Some(a == b),
            Bin::Add | Bin::Sub | Bin::Mul | Bin::Div | Bin::Maximum | Bin::Minimum | Bin::Pow | Bin::And | Bin::Shr => None,
        }
    }

    fn and(&mut self, p: Bounds, q: Bounds) -> Bounds {
        Bounds { seen: self.both(p.seen, q.seen), exact: p.exact && q.exact }
    }

    fn both(&mut self, p: Visible, q: Visible) -> Visible {
        Visible { from: self.tighter(Bin::Maximum, p.from, q.from), to: self.tighter(Bin::Minimum, p.to, q.to) }
    }

    fn tighter(&mut self, bin: Bin, a: Option<Arg>, b: Option<Arg>) -> Option<Arg> {
        match (a, b) {
            (Some(a), Some(b)) if a != b => Some(self.step(Op::Bin(bin), &[a, b])),
            (a, b) => a.or(b),
        }
    }

    /// What either leaves: exact where both are open on the same side.
    fn or(&mut self, p: Bounds, q: Bounds) -> Bounds {
        let mut wider = |bin: Bin, a: Option<Arg>, b: Option<Arg>| Some(self.step(Op::Bin(bin), &[a?, b?]));
        let from = wider(Bin::Minimum, p.seen.from, q.seen.from);
        let to = wider(Bin::Maximum, p.seen.to, q.seen.to);
        let one_sided = |b: Bounds| (b.seen.from.is_none(), b.seen.to.is_none());
        let same_side = one_sided(p) == one_sided(q) && one_sided(p).0 != one_sided(p).1;
        Bounds { seen: Visible { from, to }, exact: p.exact && q.exact && same_side }
    }

    /// a ≤ b, or a < b, as a bound on the key.
    fn compare(&mut self, a: Arg, b: Arg, strict: bool) -> Bounds {
        let (Some(a), Some(b)) = (self.linear(a), self.linear(b)) else { return NOTHING_KNOWN };
        let terms = |x: &Linear, sign: i8| x.terms.iter().map(|(s, t)| (s * sign, *t)).collect::<Vec<_>>();
        let known = match a.keys - b.keys {
            1 => self.sum([terms(&b, 1), terms(&a, -1)].concat()).map(|to| Visible { to: Some(self.moved(to, strict, false)), from: None }),
            -1 => self.sum([terms(&a, 1), terms(&b, -1)].concat()).map(|from| Visible { from: Some(self.moved(from, strict, true)), to: None }),
            _ => None,
        };
        known.map_or(NOTHING_KNOWN, |seen| Bounds { seen, exact: true })
    }

    /// The bound next to one that is not itself seen; no key is below 0 or at the largest number, so that neither wraps.
    fn moved(&mut self, bound: Arg, strict: bool, up: bool) -> Arg {
        if !strict {
            return bound;
        }
        let (clamp, limit, step) = if up { (Bin::Minimum, f64::from(i32::MAX - 1), 1.0) } else { (Bin::Maximum, 0.0, -1.0) };
        let (limit, one) = (self.int(limit), self.int(step));
        let inside = self.step(Op::Bin(clamp), &[bound, limit]);
        self.step(Op::Bin(Bin::Add), &[inside, one])
    }

    fn int(&mut self, x: f64) -> Arg {
        self.step(Op::Const(x.to_bits(), DType::I32), &[])
    }

    /// A sum of terms. Only one of them may be a number that a program is given, and then alone: sums of others do not wrap.
    fn sum(&mut self, terms: Vec<(i8, Arg)>) -> Option<Arg> {
        let tame = |f: &Masks, t: Arg| t == Arg::Query || f.op(t).and_then(|(op, _)| op.number()).is_some_and(|x| x.abs() < SMALL);
        match terms[..] {
            [(1, only)] => return Some(only),
            [] => return Some(self.int(0.0)),
            _ if terms.len() > 4 || !terms.iter().all(|t| tame(self, t.1)) => return None,
            _ => {}
        }
        let zero = self.int(0.0);
        let add = |f: &mut Masks, sum, (sign, t): &(i8, Arg)| f.step(Op::Bin(if *sign > 0 { Bin::Add } else { Bin::Sub }), &[sum, *t]);
        Some(terms.iter().fold(zero, |sum, t| add(self, sum, t)))
    }

    /// A whole number as so many keys and terms without any.
    fn linear(&self, arg: Arg) -> Option<Linear> {
        if arg == Arg::Key {
            return Some(Linear { keys: 1, terms: vec![] });
        }
        if self.is_of_row(arg) {
            return Some(Linear { keys: 0, terms: vec![(1, arg)] });
        }
        let (op, [a, b, _]) = self.op(arg)?;
        let sign = match op {
            Op::Bin(Bin::Add) => 1,
            Op::Bin(Bin::Sub) => -1,
            _ => return None,
        };
        let (a, b) = (self.linear(a)?, self.linear(b)?);
        let terms = a.terms.into_iter().chain(b.terms.into_iter().map(|(s, t)| (s * sign, t))).collect();
        Some(Linear { keys: a.keys + b.keys * i32::from(sign), terms })
    }

    /// Whether a value is one for all keys.
    fn is_of_row(&self, arg: Arg) -> bool {
        let random = |a: Arg| matches!(self.op(a), Some((Op::RandomBits(_), _)));
        !self.f.depends(arg, |a| match a {
            Arg::Key | Arg::Score | Arg::Cotangent => true,
            Arg::Query => false,
            Arg::Captured(i) => !self.of_rows.get(usize::from(i)).copied().unwrap_or(false),
            Arg::Step(_) => random(a),
        })
    }
}

/// keys · key + Σ sign · term
struct Linear {
    keys: i32,
    terms: Vec<(i8, Arg)>,
}
