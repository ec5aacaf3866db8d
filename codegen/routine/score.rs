//! What attention carries as the function of a score becomes steps of its kernel, over heads, queries and keys.

use super::homes::{Home, row_major};
use crate::kernel::Elem;
use crate::spec::{Access, Captured, Dag, Heads, Step};
use ir::{Arg, Attn, Bin, DType, Op, ScoreFn, Type};
use std::collections::HashMap;

/// An operand or a result whose axes are those of the scores, at their end: which operand of the kernel it is, and where it stands.
pub(crate) struct Place<'a> {
    pub arg: usize,
    pub elem: Elem,
    pub home: &'a Home,
}

/// start + step · query
struct Line {
    start: i64,
    step: i64,
}

impl Line {
    fn at(&self, query: i64) -> i64 {
        self.start + self.step * query
    }

    /// Whether no query up to the last has more than another line there.
    fn is_below(&self, other: &Line, last: i64) -> bool {
        self.start <= other.start && self.at(last) <= other.at(last)
    }
}

/// The steps of a score's function as they are made.
pub(crate) struct ScoreSteps<'a> {
    f: ScoreFn,
    captured: &'a [Place<'a>],
    /// Which axis of the scores each dim of the kernel is.
    order: Vec<usize>,
    dag: Dag,
    steps: HashMap<Arg, usize>,
}

impl<'a> ScoreSteps<'a> {
    /// The steps of an attention's function, of which `h` says what they are for. `order` has the axis of the scores that each dim is.
    pub(crate) fn describe(a: &Attn, order: &[u8], types: &[&Type], captured: &'a [Place<'a>], h: &mut Heads) -> ScoreSteps<'a> {
        let (f, seen) = a.f.visible(types);
        let order = order.iter().map(|l| usize::from(*l)).collect();
        let mut s = ScoreSteps { f, captured, order, dag: Dag::default(), steps: HashMap::new() };
        let (score, weight, dscore) = (s.f.score, s.f.weight, s.f.dscore);
        let results = [Some(score), weight, dscore].into_iter().flatten().chain(s.f.dcaptured.iter().map(|d| d.1));
        s.needed(&results.collect::<Vec<_>>());
        h.visible.from = s.bounds(seen.from, Bin::Maximum, h.queries);
        h.visible.to = s.bounds(seen.to, Bin::Minimum, h.queries);
        h.score = (score != Arg::Score).then(|| s.value(score));
        h.weight = weight.map(|x| s.value(x));
        h.sink = s.f.sink.map(|i| s.value(Arg::Captured(i)));
        h.dscore = dscore.map(|x| s.value(x));
        s
    }

    /// Where the gradient of the n-th captured operand that has one goes.
    pub(crate) fn gradient(&mut self, n: usize, place: &Place) -> Captured {
        let (_, step) = self.f.dcaptured[n];
        Captured { step: self.value(step), access: self.access(place), at: None }
    }

    /// The steps.
    pub(crate) fn finish(self) -> Dag {
        self.dag
    }

    /// Makes the steps that some are made of, in order, so that none has to wait for its operands.
    fn needed(&mut self, results: &[Arg]) {
        let mut need = vec![false; self.f.steps.len()];
        let mark = |need: &mut Vec<bool>, arg: &Arg| {
            if let Arg::Step(i) = arg {
                need[usize::from(*i)] = true;
            }
        };
        results.iter().for_each(|r| mark(&mut need, r));
        for i in (0..need.len()).rev().filter(|i| need[*i]).collect::<Vec<_>>() {
            self.f.steps[i].args.iter().for_each(|x| mark(&mut need, x));
        }
        (0..need.len()).filter(|i| need[*i]).for_each(|i| {
            self.value(Arg::Step(i as u16));
        });
    }

    /// Bounds of which the tightest holds: a line along the queries is one step.
    fn bounds(&mut self, bound: Option<Arg>, tightest: Bin, queries: usize) -> Vec<usize> {
        let Some(bound) = bound else { return vec![] };
        if let Some(line) = self.line(bound, queries as i64 - 1) {
            let n = self.order.len();
            let strides = (0..n).map(|d| if d + 2 == n { line.step } else { 0 }).collect();
            return vec![self.push(Step::Index { offset: line.start, strides }, Elem::I32)];
        }
        match self.op(bound) {
            Some((Op::Bin(b), args)) if b == tightest => args.into_iter().flat_map(|x| self.bounds(Some(x), tightest, queries)).collect(),
            _ => {
                self.needed(&[bound]);
                vec![self.value(bound)]
            }
        }
    }

    fn op(&self, arg: Arg) -> Option<(Op, Vec<Arg>)> {
        let Arg::Step(i) = arg else { return None };
        let step = &self.f.steps[usize::from(i)];
        Some((step.op.clone(), step.args.to_vec()))
    }

    /// A whole number that is a line along the queries up to the last.
    fn line(&self, arg: Arg, last: i64) -> Option<Line> {
        if arg == Arg::Query {
            return Some(Line { start: 0, step: 1 });
        }
        let (op, args) = self.op(arg)?;
        if let (Some(x), Op::Const(_, DType::I32)) = (op.number(), &op) {
            return Some(Line { start: x as i64, step: 0 });
        }
        let Op::Bin(bin) = op else { return None };
        let (a, b) = (self.line(args[0], last)?, self.line(args[1], last)?);
        let (a_below, b_below) = (a.is_below(&b, last), b.is_below(&a, last));
        let line = match bin {
            Bin::Add => Line { start: a.start + b.start, step: a.step + b.step },
            Bin::Sub => Line { start: a.start - b.start, step: a.step - b.step },
            Bin::Minimum if a_below => a,
            Bin::Minimum if b_below => b,
            Bin::Maximum if a_below => b,
            Bin::Maximum if b_below => a,
            Bin::Minimum | Bin::Maximum | Bin::Mul | Bin::Div | Bin::Pow | Bin::Lt | Bin::Le | Bin::Eq | Bin::And | Bin::Shr => return None,
        };
        // what wraps is no line
        let whole = i64::from(i32::MIN)..=i64::from(i32::MAX);
        (whole.contains(&line.start) && whole.contains(&line.at(last))).then_some(line)
    }

    fn push(&mut self, step: Step, elem: Elem) -> usize {
        self.dag.steps.push((step, elem));
        self.dag.steps.len() - 1
    }

    fn value(&mut self, arg: Arg) -> usize {
        if let Some(step) = self.steps.get(&arg) {
            return *step;
        }
        let n = self.order.len();
        let along = |dim: usize| Step::Index { offset: 0, strides: (0..n).map(|d| i64::from(d == dim)).collect() };
        let step = match arg {
            Arg::Score => self.push(Step::Product, Elem::F32),
            Arg::Cotangent => self.push(Step::Cotangent, Elem::F32),
            Arg::Query => self.push(along(n - 2), Elem::I32),
            Arg::Key => self.push(along(n - 1), Elem::I32),
            Arg::Captured(i) => {
                let place = &self.captured[usize::from(i)];
                self.push(Step::Load(self.access(place)), place.elem)
            }
            Arg::Step(i) => self.compute(usize::from(i)),
        };
        self.steps.insert(arg, step);
        step
    }

    fn compute(&mut self, i: usize) -> usize {
        let step = self.f.steps[i].clone();
        let args: Vec<usize> = step.args.iter().map(|a| self.value(*a)).collect();
        let elem = |k: usize| self.dag.steps[args[k]].1.value();
        let (pure, elem) = match &step.op {
            Op::Const(bits, dtype) => (Step::Const(f64::from_bits(*bits)), Elem::of(*dtype)),
            Op::Un(u) => (Step::Un(*u, args[0]), elem(0)),
            Op::Bin(b @ (Bin::Lt | Bin::Le | Bin::Eq)) => (Step::Bin(*b, args[0], args[1]), Elem::Bool),
            Op::Bin(b) => (Step::Bin(*b, args[0], args[1]), elem(0)),
            Op::Select => (Step::Select(args[0], args[1], args[2]), elem(1)),
            Op::Cast(dtype) => (Step::Cast(args[0]), Elem::of(*dtype)),
            Op::StopGradient => (Step::Cast(args[0]), elem(0)),
            Op::RandomBits(dims) => (self.random(args[0], &dims.iter().map(|d| d.size()).collect::<Vec<_>>()), Elem::U32),
            op @ (Op::Param(..)
            | Op::Input(..)
            | Op::Iota(..)
            | Op::Size(_)
            | Op::Reduce(..)
            | Op::Contract(_)
            | Op::Grouped(_)
            | Op::GroupedSum(_)
            | Op::Reshape(_)
            | Op::Transpose(_))
            | op @ (Op::Broadcast(_) | Op::Slice(..) | Op::Pad(..) | Op::Concat(_) | Op::Gather | Op::ScatterAdd | Op::Update(_) | Op::Repeat(_))
            | op @ (Op::Tuple | Op::Get(_) | Op::Row(_) | Op::Attention(_) | Op::AttentionBwd(_)) => {
                unreachable!("the type rule lets no {op} into a score's function")
            }
        };
        self.push(pure, elem)
    }

    /// Random bits, counted in the order of the scores.
    fn random(&mut self, key: usize, dims: &[usize]) -> Step {
        let counter = Step::Index { offset: 0, strides: self.turned(dims, &row_major(dims)) };
        let counter = self.push(counter, Elem::I32);
        Step::Random(key, self.push(Step::Cast(counter), Elem::U32))
    }

    fn access(&self, place: &Place) -> Access {
        Access { arg: place.arg, offset: place.home.offset, strides: self.turned(&place.home.dims, &place.home.strides) }
    }

    /// Strides by dim of the kernel of what has these at the end of the scores' axes: 0 where it is one for all.
    fn turned(&self, dims: &[usize], strides: &[i64]) -> Vec<i64> {
        let skipped = self.order.len() - dims.len();
        let along = |axis: &usize| axis.checked_sub(skipped).filter(|d| dims[*d] != 1).map_or(0, |d| strides[d]);
        self.order.iter().map(along).collect()
    }
}
