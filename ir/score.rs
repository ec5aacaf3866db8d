//! What becomes of a score between the product of queries and keys and the softmax: a small pointwise function that attention carries.
//!
//! Its text is an expression a result. `f` is the score, `w` what a probability is multiplied by before it meets the values,
//! `sink` a further score in every row's softmax; in a derivative `df` is the cotangent of the product and `d0`, `d1`, … are those of the
//! captured operands. `s` is the scaled product, `i` and `j` are the positions of query and key, `x0`, `x1`, … the captured operands,
//! `g` the cotangent of the score.
//! `f=select(le(j,i),s,-inf)` is a causal mask, for which one also writes `causal`.

use crate::infer::{broadcast, infer};
use crate::op::{Bin, Op, num};
use crate::types::{DType, Dim, Dims, Type};
use smallvec::SmallVec;
use std::fmt::{self, Display};

/// What a step of a [`ScoreFn`] reads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Arg {
    /// The product of query and key, scaled.
    Score,
    /// The position of the query, an `i32`.
    Query,
    /// The position of the key, an `i32`.
    Key,
    /// An operand that attention has besides those it always has. It broadcasts over the scores.
    Captured(u8),
    /// The cotangent of the score, which derivatives read.
    Cotangent,
    /// The result of an earlier step.
    Step(u16),
}

/// One op of a [`ScoreFn`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ScoreStep {
    /// A pointwise op or a constant.
    pub op: Op,
    /// What it reads.
    pub args: SmallVec<[Arg; 3]>,
}

/// A pointwise function of a score, its positions and captured operands. Equal functions are equal values, but for the order of
/// operands that may be exchanged.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ScoreFn {
    /// In order of dependence, none twice, none that no result needs.
    pub steps: Vec<ScoreStep>,
    /// The score the softmax sees; −∞ where a key is hidden.
    pub score: Arg,
    /// What a probability is multiplied by before it meets the values: dropout. It does not depend on the score.
    pub weight: Option<Arg>,
    /// A captured operand that is a further score in every row's softmax, whose probability meets no value: a sink (Xiao et al. 2023).
    pub sink: Option<u8>,
    /// The cotangent of the scaled product.
    pub dscore: Option<Arg>,
    /// Cotangents of captured operands, before what was broadcast is summed, by their number.
    pub dcaptured: Vec<(u8, Arg)>,
}

/// The most steps, and the most captured operands, that a function has.
pub const SCORE_STEPS_MAX: usize = 256;
/// The most operands a function captures.
pub const CAPTURED_MAX: u8 = 16;
/// How deep an expression is nested before a part of it gets a name of its own.
const NESTED_MAX: usize = 12;

impl Default for ScoreFn {
    /// The score as it is.
    fn default() -> ScoreFn {
        ScoreFn { steps: vec![], score: Arg::Score, weight: None, sink: None, dscore: None, dcaptured: vec![] }
    }
}

impl ScoreFn {
    /// A query sees the keys up to its own position.
    pub fn causal() -> ScoreFn {
        let mut f = ScoreFn::default();
        let seen = f.step(Op::Bin(Bin::Le), &[Arg::Key, Arg::Query]);
        let hidden = f.step(num(f64::NEG_INFINITY), &[]);
        f.score = f.step(Op::Select, &[seen, Arg::Score, hidden]);
        f.canonical()
    }

    /// Whether nothing becomes of the score.
    pub fn is_plain(&self) -> bool {
        self.score == Arg::Score && self.weight.is_none() && self.sink.is_none()
    }

    /// A step, new or known.
    pub fn step(&mut self, op: Op, args: &[Arg]) -> Arg {
        let step = ScoreStep { op, args: args.iter().copied().collect() };
        let at = self.steps.iter().position(|s| *s == step).unwrap_or_else(|| {
            self.steps.push(step);
            self.steps.len() - 1
        });
        Arg::Step(at as u16)
    }

    /// Every result.
    pub fn results(&self) -> impl Iterator<Item = Arg> {
        [Some(self.score), self.weight, self.dscore].into_iter().flatten().chain(self.dcaptured.iter().map(|d| d.1))
    }

    fn results_mut(&mut self) -> impl Iterator<Item = &mut Arg> {
        [Some(&mut self.score), self.weight.as_mut(), self.dscore.as_mut()].into_iter().flatten().chain(self.dcaptured.iter_mut().map(|d| &mut d.1))
    }

    /// The same function with its steps in the order in which the results need them, and no others.
    pub fn canonical(&self) -> ScoreFn {
        let mut out = ScoreFn { steps: vec![], ..self.clone() };
        let mut new: Vec<Option<Arg>> = vec![None; self.steps.len()];
        let mut stack: Vec<(Arg, bool)> = self.results().map(|r| (r, false)).collect();
        stack.reverse();
        while let Some((arg, operands_done)) = stack.pop() {
            let Arg::Step(i) = arg else { continue };
            let (i, step) = (usize::from(i), &self.steps[usize::from(i)]);
            if new[i].is_some() {
                continue;
            }
            if operands_done {
                let args: SmallVec<[Arg; 3]> = step.args.iter().map(|a| moved(*a, &new)).collect();
                new[i] = Some(out.step(step.op.clone(), &args));
            } else {
                stack.push((arg, true));
                stack.extend(step.args.iter().rev().map(|a| (*a, false)));
            }
        }
        out.results_mut().for_each(|r| *r = moved(*r, &new));
        out
    }

    /// Whether a result depends on what `is` holds of.
    pub fn depends(&self, result: Arg, is: impl Fn(Arg) -> bool) -> bool {
        let mut stack = vec![result];
        let mut seen = vec![false; self.steps.len()];
        while let Some(arg) = stack.pop() {
            if is(arg) {
                return true;
            }
            if let Arg::Step(i) = arg
                && !std::mem::replace(&mut seen[usize::from(i)], true)
            {
                stack.extend(&self.steps[usize::from(i)].args);
            }
        }
        false
    }

    /// How many operands it captures at least: one more than the largest number it reads.
    pub fn captured(&self) -> usize {
        let read = self.steps.iter().flat_map(|s| s.args.iter().copied()).chain(self.results());
        let numbers = read.filter_map(|a| if let Arg::Captured(i) = a { Some(usize::from(i) + 1) } else { None });
        numbers.chain(self.dcaptured.iter().map(|d| d.0).chain(self.sink).map(|i| usize::from(i) + 1)).max().unwrap_or(0)
    }

    /// The same function with its dims bound.
    pub(crate) fn map_dims(&self, dims: &dyn Fn(&Dims) -> Result<Dims, String>) -> Result<ScoreFn, String> {
        let mut out = self.clone();
        for step in &mut out.steps {
            if let Op::RandomBits(d) = &mut step.op {
                *d = dims(d)?;
            }
        }
        Ok(out)
    }

    /// Dims that stand in its ops.
    pub(crate) fn dims(&self) -> impl Iterator<Item = Dim> {
        self.steps.iter().filter_map(|s| if let Op::RandomBits(d) = &s.op { Some(d.clone()) } else { None }).flatten()
    }

    /// The type of each step, for scores of these dims and captured operands of these types; or why it is no function of a score.
    pub fn types(&self, scores: &[Dim], captured: &[&Type]) -> Result<Vec<Type>, String> {
        if self.steps.len() > SCORE_STEPS_MAX || captured.len() > usize::from(CAPTURED_MAX) {
            return Err(format!("a score's function has at most {SCORE_STEPS_MAX} steps and {CAPTURED_MAX} captured operands"));
        }
        for (i, x) in captured.iter().enumerate() {
            if broadcast(&[x, &Type::f32(scores.iter().copied())]).ok().as_deref() != Some(scores) || !x.is_tensor() {
                return Err(format!("x{i} is {x}, which does not broadcast over the scores [{}]", crate::types::list(scores)));
            }
        }
        let mut types: Vec<Type> = vec![];
        for (i, step) in self.steps.iter().enumerate() {
            if !is_pointwise(&step.op) {
                return Err(format!("{} is not pointwise, and stands in a score's function", step.op));
            }
            let args = step.args.iter().map(|a| type_of(*a, &types[..i], scores, captured)).collect::<Result<Vec<_>, _>>()?;
            let ty = infer(&step.op, &args.iter().collect::<Vec<_>>())?;
            if broadcast(&[&ty, &Type::f32(scores.iter().copied())]).ok().as_deref() != Some(scores) {
                return Err(format!("{} of a score's function is {ty}, which does not broadcast over the scores", step.op));
            }
            types.push(ty);
        }
        self.check_results(&types, scores, captured)?;
        Ok(types)
    }

    fn check_results(&self, types: &[Type], scores: &[Dim], captured: &[&Type]) -> Result<(), String> {
        let full = Type::f32(scores.iter().copied());
        let float = |what: &str, result: Arg, whole: bool| {
            let ty = type_of(result, types, scores, captured)?;
            match ty.dtype == DType::F32 && (!whole || ty.dims == full.dims) {
                true => Ok(()),
                false => Err(format!("{what} of a score's function is {ty}, expected {full}")),
            }
        };
        float("f", self.score, true)?;
        if let Some(w) = self.weight {
            float("w", w, false)?;
            if self.depends(w, |a| matches!(a, Arg::Score)) {
                return Err("w of a score's function depends on the score".into());
            }
        }
        if [Some(self.score), self.weight].into_iter().flatten().any(|r| self.depends(r, |a| a == Arg::Cotangent)) {
            return Err("g stands in what is no derivative".into());
        }
        if let Some(i) = self.sink {
            float("sink", Arg::Captured(i), false)?;
            if captured[usize::from(i)].dim(-1) != Dim::ONE {
                return Err(format!("sink of a score's function is {}, expected one a row", captured[usize::from(i)]));
            }
            if self.steps.iter().flat_map(|s| &s.args).any(|a| *a == Arg::Captured(i)) || self.dcaptured.iter().any(|d| d.0 == i) {
                return Err("sink of a score's function is an operand of f, too".into());
            }
        }
        self.dscore.map_or(Ok(()), |d| float("df", d, false))?;
        for (k, (i, d)) in self.dcaptured.iter().enumerate() {
            float(&format!("d{i}"), *d, false)?;
            let ordered = k == 0 || self.dcaptured[k - 1].0 < *i;
            if !ordered || captured.get(usize::from(*i)).is_none_or(|x| x.dtype != DType::F32) {
                return Err(format!("d{i} is the derivative by no captured f32, or stands out of order"));
            }
        }
        Ok(())
    }
}

fn moved(arg: Arg, new: &[Option<Arg>]) -> Arg {
    if let Arg::Step(i) = arg { new[usize::from(i)].expect("operands come first") } else { arg }
}

/// The type of what a step reads.
fn type_of(arg: Arg, steps: &[Type], scores: &[Dim], captured: &[&Type]) -> Result<Type, String> {
    let rank = scores.len();
    match arg {
        Arg::Score | Arg::Cotangent => Ok(Type::f32(scores.iter().copied())),
        Arg::Query => infer(&Op::Iota(-2, scores[rank - 2]), &[]),
        Arg::Key => infer(&Op::Iota(-1, scores[rank - 1]), &[]),
        Arg::Captured(i) => captured.get(usize::from(i)).map(|t| (*t).clone()).ok_or_else(|| format!("there is no captured operand x{i}")),
        Arg::Step(i) => steps.get(usize::from(i)).cloned().ok_or_else(|| format!("step {i} reads itself or a later one")),
    }
}

/// The ops that a score's function is made of.
fn is_pointwise(op: &Op) -> bool {
    matches!(op, Op::Const(..) | Op::Un(_) | Op::Bin(_) | Op::Select | Op::Cast(_) | Op::RandomBits(_) | Op::StopGradient)
}

/// How steps are written: those with a name of their own, in order.
struct Names<'a> {
    f: &'a ScoreFn,
    named: Vec<Option<usize>>,
}

impl<'a> Names<'a> {
    /// What is used twice has a name, and what would be nested too deep.
    fn new(f: &'a ScoreFn) -> Names<'a> {
        let mut uses = vec![0; f.steps.len()];
        for arg in f.steps.iter().flat_map(|s| s.args.iter().copied()).chain(f.results()) {
            if let Arg::Step(i) = arg {
                uses[usize::from(i)] += 1;
            }
        }
        let (mut named, mut depth, mut count) = (vec![], vec![], 0);
        for (step, uses) in f.steps.iter().zip(uses) {
            let below = step.args.iter().map(|a| if let Arg::Step(i) = a { depth[usize::from(*i)] } else { 0 }).max().unwrap_or(0);
            let name = (!step.args.is_empty() && (uses > 1 || below + 1 >= NESTED_MAX)).then_some(count);
            count += usize::from(name.is_some());
            depth.push(if name.is_some() { 0 } else { below + 1 });
            named.push(name);
        }
        Names { f, named }
    }

    fn arg(&self, arg: Arg) -> String {
        match arg {
            Arg::Score => "s".into(),
            Arg::Query => "i".into(),
            Arg::Key => "j".into(),
            Arg::Captured(i) => format!("x{i}"),
            Arg::Cotangent => "g".into(),
            Arg::Step(i) => match self.named[usize::from(i)] {
                Some(name) => format!("t{name}"),
                None => self.step(usize::from(i)),
            },
        }
    }

    fn step(&self, i: usize) -> String {
        let ScoreStep { op, args } = &self.f.steps[i];
        let args: Vec<String> = args.iter().map(|a| self.arg(*a)).collect();
        if args.is_empty() { op.to_string() } else { format!("{op}({})", args.join(",")) }
    }
}

impl Display for ScoreFn {
    /// Each part behind a bar; nothing for the score as it is.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let forward = ScoreFn { steps: self.steps.clone(), score: self.score, ..ScoreFn::default() }.canonical();
        let causal = forward == ScoreFn::causal();
        let rest = if causal { ScoreFn { score: Arg::Score, ..self.clone() }.canonical() } else { self.clone() };
        if causal {
            f.write_str("|causal")?;
        }
        let names = Names::new(&rest);
        for (i, name) in names.named.iter().enumerate() {
            if let Some(name) = name {
                write!(f, "|t{name}={}", names.step(i))?;
            }
        }
        if rest.score != Arg::Score {
            write!(f, "|f={}", names.arg(rest.score))?;
        }
        for (name, result) in [("w", rest.weight), ("df", rest.dscore)] {
            if let Some(result) = result {
                write!(f, "|{name}={}", names.arg(result))?;
            }
        }
        if let Some(i) = rest.sink {
            write!(f, "|sink=x{i}")?;
        }
        rest.dcaptured.iter().try_for_each(|(i, d)| write!(f, "|d{i}={}", names.arg(*d)))
    }
}

impl ScoreFn {
    /// Reads parts as `Display` writes them, without their bars.
    pub(crate) fn parse(parts: &[&str]) -> Result<ScoreFn, String> {
        let mut reader = Reader { f: ScoreFn::default(), named: vec![] };
        let mut causal = false;
        for part in parts {
            match part.split_once('=') {
                None if *part == "causal" && !causal => causal = true,
                Some((name, text)) => reader.part(name, text)?,
                None => return Err(format!("'{part}' is no part of a score's function: expected something like f=select(le(j,i),s,-inf)")),
            }
        }
        let mut f = reader.f;
        if causal {
            if f.score != Arg::Score {
                return Err("a score is causal or has an f, not both".into());
            }
            let (seen, hidden) = (f.step(Op::Bin(Bin::Le), &[Arg::Key, Arg::Query]), f.step(num(f64::NEG_INFINITY), &[]));
            f.score = f.step(Op::Select, &[seen, Arg::Score, hidden]);
        }
        Ok(f.canonical())
    }
}

/// Reads expressions into steps.
struct Reader<'a> {
    f: ScoreFn,
    named: Vec<(&'a str, Arg)>,
}

impl<'a> Reader<'a> {
    fn part(&mut self, name: &'a str, text: &str) -> Result<(), String> {
        let (value, rest) = self.expression(text, 0)?;
        if !rest.is_empty() {
            return Err(format!("'{rest}' follows an expression"));
        }
        let taken = self.named.iter().any(|n| n.0 == name);
        let number = |prefix: char| name.strip_prefix(prefix).and_then(|n| n.parse::<u8>().ok());
        match name {
            _ if taken => return Err(format!("{name} is there twice")),
            "f" => self.f.score = value,
            "w" => self.f.weight = Some(value),
            "df" => self.f.dscore = Some(value),
            "sink" => match value {
                Arg::Captured(i) => self.f.sink = Some(i),
                _ => return Err(format!("sink={text}: expected a captured operand, as in sink=x0")),
            },
            _ if number('t').is_some() => {}
            _ => match number('d') {
                Some(i) => self.f.dcaptured.push((i, value)),
                None => return Err(format!("'{name}' is no part of a score's function: expected f, w, sink, df, d0 or t0")),
            },
        }
        self.named.push((name, value));
        Ok(())
    }

    /// An expression at the start of a text, and what follows it.
    fn expression<'t>(&mut self, text: &'t str, depth: usize) -> Result<(Arg, &'t str), String> {
        if depth > 2 * NESTED_MAX || self.f.steps.len() > SCORE_STEPS_MAX {
            return Err("an expression is nested too deep, or too long: name a part of it, as in t0=…".into());
        }
        let (head, mut rest) = text.split_at(head_end(text));
        let mut args: SmallVec<[Arg; 3]> = SmallVec::new();
        if let Some(inside) = rest.strip_prefix('(') {
            rest = inside;
            loop {
                let (arg, after) = self.expression(rest, depth + 1)?;
                args.push(arg);
                match (after.strip_prefix(','), after.strip_prefix(')')) {
                    (Some(more), _) => rest = more,
                    (None, Some(end)) => {
                        rest = end;
                        break;
                    }
                    (None, None) => return Err(format!("'{after}': expected ',' or ')'")),
                }
            }
        }
        match self.leaf(head) {
            Some(leaf) if args.is_empty() => Ok((leaf, rest)),
            Some(_) => Err(format!("{head} takes no operands")),
            None => head.parse::<Op>().map(|op| (self.f.step(op, &args), rest)),
        }
    }

    fn leaf(&self, head: &str) -> Option<Arg> {
        match head {
            "s" => Some(Arg::Score),
            "i" => Some(Arg::Query),
            "j" => Some(Arg::Key),
            "g" => Some(Arg::Cotangent),
            _ => {
                let captured = head.strip_prefix('x').and_then(|n| n.parse().ok()).map(Arg::Captured);
                captured.or_else(|| self.named.iter().find(|n| n.0 == head && n.0.starts_with('t')).map(|n| n.1))
            }
        }
    }
}

/// Where an op's name with its attributes ends.
fn head_end(text: &str) -> usize {
    let mut open = 0i32;
    let ends = |c: char| {
        open += i32::from(c == '[') - i32::from(c == ']');
        open <= 0 && matches!(c, '(' | ')' | ',')
    };
    text.find(ends).unwrap_or(text.len())
}
