//! The derivative of the function that attention carries: a pointwise function again, which attention's backward carries.

use crate::grad::pointwise_gradients;
use ir::{Arg, Attn, DType, Dim, Func, NodeId, Op, ScoreFn, Type};
use std::collections::HashMap;

/// The attention with the derivatives of its function: by the score, and by those captured operands that `wanted` holds of.
pub(crate) fn with_derivatives(a: &Attn, scores: &[Dim], captured: &[Type], wanted: &[bool]) -> Attn {
    let wanted: Vec<u8> = (0..captured.len() as u8)
        .filter(|i| wanted[usize::from(*i)] && captured[usize::from(*i)].dtype == DType::F32 && a.f.sink != Some(*i))
        .collect();
    let body = Body::new(&a.f, scores, captured);
    let wrt: Vec<NodeId> = std::iter::once(body.score).chain(wanted.iter().map(|i| body.captured[usize::from(*i)])).collect();
    let result = body.at(a.f.score);
    let (tape, gradients) = pointwise_gradients(&body.func, &wrt, result, body.cotangent);
    let mut reader = Reader { body: &body, func: &tape, f: (*a.f).clone(), known: HashMap::new() };
    let read: Vec<Arg> = gradients.iter().map(|g| reader.gradient(*g)).collect();
    let mut f = reader.f;
    let hidden = masks(&f);
    let simple = |f: &ScoreFn, mut d: Arg| {
        while let Some(next) = unmasked(f, d, &hidden) {
            d = next;
        }
        d
    };
    f.dscore = Some(simple(&f, read[0])).filter(|d| *d != Arg::Cotangent);
    f.dcaptured = wanted.iter().zip(&read[1..]).map(|(i, d)| (*i, simple(&f, *d))).collect();
    Attn { f: f.canonical().into(), ..a.clone() }
}

/// The function as one of the IR, whose float operands have the dims of the scores: nothing is summed within.
struct Body {
    func: Func,
    score: NodeId,
    query: NodeId,
    key: NodeId,
    captured: Vec<NodeId>,
    cotangent: NodeId,
    steps: Vec<NodeId>,
}

impl Body {
    fn new(f: &ScoreFn, scores: &[Dim], captured: &[Type]) -> Body {
        let mut func = Func::new("score");
        let whole = Type::f32(scores.iter().copied());
        let mut inputs = 0;
        let mut input = |func: &mut Func, ty: Type| {
            inputs += 1;
            func.add(Op::Input(inputs - 1, ty), &[])
        };
        let (score, cotangent) = (input(&mut func, whole.clone()), input(&mut func, whole.clone()));
        let position = |axis: i8| ir::infer(&Op::Iota(axis, whole.dim(axis)), &[]).expect("positions were checked with the attention");
        let (query, key) = (input(&mut func, position(-2)), input(&mut func, position(-1)));
        let wide = |ty: &Type| if ty.dtype == DType::F32 { whole.clone() } else { ty.clone() };
        let captured = captured.iter().map(|ty| input(&mut func, wide(ty))).collect();
        let mut body = Body { func, score, query, key, captured, cotangent, steps: vec![] };
        for step in &f.steps {
            let args: Vec<NodeId> = step.args.iter().map(|a| body.at(*a)).collect();
            let id = body.func.add(step.op.clone(), &args);
            body.steps.push(id);
        }
        body
    }

    fn at(&self, arg: Arg) -> NodeId {
        match arg {
            Arg::Score => self.score,
            Arg::Query => self.query,
            Arg::Key => self.key,
            Arg::Captured(i) => self.captured[usize::from(i)],
            Arg::Cotangent => self.cotangent,
            Arg::Step(i) => self.steps[usize::from(i)],
        }
    }

    /// The operand that an input is.
    fn operand(&self, id: NodeId) -> Option<Arg> {
        let fixed = [(self.score, Arg::Score), (self.query, Arg::Query), (self.key, Arg::Key), (self.cotangent, Arg::Cotangent)];
        let known = fixed.into_iter().find(|f| f.0 == id).map(|f| f.1);
        known.or_else(|| self.captured.iter().position(|c| *c == id).map(|i| Arg::Captured(i as u8)))
    }
}

/// Reads values of the differentiated function as steps.
struct Reader<'a> {
    body: &'a Body,
    func: &'a Func,
    f: ScoreFn,
    known: HashMap<NodeId, Arg>,
}

impl Reader<'_> {
    /// A cotangent; 0 where nothing depends on what it is of.
    fn gradient(&mut self, id: Option<NodeId>) -> Arg {
        match id {
            Some(id) => self.value(id),
            None => self.f.step(ir::num(0.0), &[]),
        }
    }

    fn value(&mut self, wanted: NodeId) -> Arg {
        for id in self.func.ids().filter(|id| *id <= wanted) {
            if self.known.contains_key(&id) {
                continue;
            }
            let node = self.func.node(id);
            let args: Vec<Arg> = node.args.iter().map(|a| self.known[a]).collect();
            let arg = if let Some(operand) = self.body.operand(id) {
                operand
            } else if let Op::Broadcast(_) = node.op {
                // whoever reads it broadcasts it
                args[0]
            } else {
                self.f.step(node.op.clone(), &args)
            };
            self.known.insert(id, arg);
        }
        self.known[&wanted]
    }
}

/// The conditions under which the score is −∞, each with the side on which it is hidden.
fn masks(f: &ScoreFn) -> Vec<(Arg, bool)> {
    let (mut out, mut score) = (vec![], f.score);
    while let Some((condition, a, b)) = select(f, score) {
        let side = match (number(f, a), number(f, b)) {
            (Some(f64::NEG_INFINITY), _) => true,
            (_, Some(f64::NEG_INFINITY)) => false,
            _ => break,
        };
        out.push((condition, side));
        score = if side { b } else { a };
    }
    out
}

/// A hidden key has no gradient in any case, so that a derivative need not select 0 there.
fn unmasked(f: &ScoreFn, d: Arg, hidden: &[(Arg, bool)]) -> Option<Arg> {
    let (condition, a, b) = select(f, d)?;
    let side = hidden.iter().find(|h| h.0 == condition)?.1;
    let (zero, rest) = if side { (a, b) } else { (b, a) };
    (number(f, zero) == Some(0.0)).then_some(rest)
}

fn select(f: &ScoreFn, arg: Arg) -> Option<(Arg, Arg, Arg)> {
    let Arg::Step(i) = arg else { return None };
    let step = &f.steps[usize::from(i)];
    (step.op == Op::Select).then(|| (step.args[0], step.args[1], step.args[2]))
}

fn number(f: &ScoreFn, arg: Arg) -> Option<f64> {
    if let Arg::Step(i) = arg { f.steps[usize::from(i)].op.number() } else { None }
}
