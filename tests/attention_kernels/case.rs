//! Attentions with every kind of term, as specs.

use crate::common::Random;
use codegen::kernel::{Elem, Memory, Param};
use codegen::spec::{Access, At, Captured, Dag, Heads, Spec, Step, Template, Visible};
use ir::{Bin, Un};

/// What may become of a score; those that hide keys come last, but for the weight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Term {
    /// c tanh(s / c) with a captured c.
    Cap,
    /// A bias for each head, query and key.
    Bias,
    /// One for each key of a sequence, and one for each query.
    KeyBias,
    QueryBias,
    /// A head's slope times (key − query).
    Slope,
    /// From a table by (key − query) + 3, beyond whose rows it is 0.
    Relative,
    /// From a table by a query's position, one row a position, a column a key.
    Positions,
    /// The same table turned: the gathered row's columns do not follow one another.
    Turned,
    /// The logarithm of a weight that may be 0.
    LogMask,
    /// Truth for each key of a sequence.
    Mask,
    /// Sequences whose queries and keys belong together.
    Documents,
    Causal,
    Window,
    /// Causal from a position that is known as it runs.
    Offset,
    /// Keys of a sequence before its length.
    Lengths,
    /// Each query's own length.
    Ragged,
    /// Probabilities times random bits.
    Dropout,
}

impl Term {
    pub const ALL: [Term; 17] = [
        Term::Cap,
        Term::Bias,
        Term::KeyBias,
        Term::QueryBias,
        Term::Slope,
        Term::Relative,
        Term::Positions,
        Term::Turned,
        Term::LogMask,
        Term::Mask,
        Term::Documents,
        Term::Causal,
        Term::Window,
        Term::Offset,
        Term::Lengths,
        Term::Ragged,
        Term::Dropout,
    ];
}

#[derive(Clone, Debug)]
pub struct Case {
    pub batch: usize,
    pub shared: usize,
    pub group: usize,
    pub queries: usize,
    pub keys: usize,
    pub depths: [usize; 2],
    pub terms: Vec<Term>,
    pub dlse: bool,
    pub seed: u32,
}

pub const SCALE: f64 = 0.75;
/// Of a window, of the table by relative position, and of the table by position.
pub const WINDOW: i64 = 4;
pub const RELATIVE: usize = 7;
pub const POSITIONS: usize = 5;
pub const KEY: u32 = 77;
/// Below this, random bits drop a probability.
pub const DROPPED: u32 = 1 << 30;

impl Case {
    pub fn heads(&self) -> usize {
        self.shared * self.group
    }
    pub fn has(&self, term: Term) -> bool {
        self.terms.contains(&term)
    }
    /// The numbers of an operand by name.
    pub fn data(&self, name: &str) -> Vec<f64> {
        let (b, h, t, s, [d, dv]) = (self.batch, self.heads(), self.queries, self.keys, self.depths);
        let salt = name.bytes().fold(self.seed, |x, c| x.wrapping_mul(31).wrapping_add(c.into()));
        let mut r = Random(salt.wrapping_mul(9973));
        let mut floats = |n: usize| -> Vec<f64> { (0..n).map(|_| r.unit()).collect() };
        match name {
            "q" => floats(b * h * t * d),
            "k" => floats(b * self.shared * s * d),
            "v" => floats(b * self.shared * s * dv),
            "do" => floats(b * h * t * dv),
            "dlse" | "query_bias" => floats(b * h * t),
            "scale" => vec![SCALE],
            "bias" => floats(h * t * s),
            "key_bias" => floats(b * s),
            "slope" => floats(h).iter().map(|x| f64::from(*x as f32 / 8.0)).collect(),
            "relative" => floats(RELATIVE * h),
            "table" => floats(POSITIONS * s),
            "cap" => vec![1.5],
            "log_mask" => floats(b * s).iter().map(|x| x.max(0.0)).collect(),
            "mask" => floats(b * s).iter().map(|x| f64::from(u8::from(*x > -0.5))).collect(),
            "documents" => (0..b * t.max(s)).map(|i| ((i % t.max(s)) / 3) as f64).collect(),
            // one is no row of the table
            "positions" => floats(t).iter().map(|x| (x * 3.0 + 2.5).floor()).collect(),
            "start" => vec![(s as f64 - t as f64).max(-2.0)],
            "lengths" => (0..b).map(|i| if i == 0 { (s / 2) as f64 } else { s as f64 + 2.0 }).collect(),
            "ragged" => (0..b * t).map(|i| ((i * 7) % (s + 3)) as f64 - 1.0).collect(),
            other => unreachable!("{other}"),
        }
    }
}

fn elem(name: &str) -> Elem {
    match name {
        "mask" => Elem::Bool,
        "documents" | "positions" | "start" | "lengths" | "ragged" => Elem::I32,
        _ => Elem::F32,
    }
}

/// A spec and its memory, results filled with NaN.
pub struct Built {
    pub spec: Spec,
    pub memory: Vec<Memory>,
}

/// Writes a DAG over [batch, shared · group, query, key].
struct Writer<'a> {
    case: &'a Case,
    dag: Dag,
    params: Vec<Param>,
    memory: Vec<Memory>,
    captured: Vec<(usize, [i64; 4], usize, Option<At>)>,
    backward: bool,
}

impl Writer<'_> {
    fn operand(&mut self, name: &str) -> usize {
        self.params.push(Param { elem: elem(name), written: false });
        self.memory.push(self.case.data(name));
        self.params.len() - 1
    }
    fn result(&mut self, count: usize) -> usize {
        self.params.push(Param { elem: Elem::F32, written: true });
        self.memory.push(vec![f64::NAN; count]);
        self.params.len() - 1
    }
    fn step(&mut self, step: Step, elem: Elem) -> usize {
        self.dag.steps.push((step, elem));
        self.dag.steps.len() - 1
    }
    fn f32(&mut self, step: Step) -> usize {
        self.step(step, Elem::F32)
    }
    fn bin(&mut self, bin: Bin, a: usize, b: usize) -> usize {
        let elem = if matches!(bin, Bin::Lt | Bin::Le | Bin::Eq) { Elem::Bool } else { self.dag.steps[a].1 };
        self.step(Step::Bin(bin, a, b), elem)
    }
    fn load(&mut self, name: &str, strides: [usize; 4]) -> usize {
        let access = self.access(name, strides);
        self.step(Step::Load(access), elem(name))
    }
    fn access(&mut self, name: &str, strides: [usize; 4]) -> Access {
        Access { arg: self.operand(name), offset: 0, strides: strides.map(|s| s as i64).to_vec() }
    }
    fn index(&mut self, offset: i64, query: i64, key: i64) -> usize {
        self.step(Step::Index { offset, strides: vec![0, 0, query, key] }, Elem::I32)
    }
    /// A gradient: the step, the strides of what it is summed into along queries and keys, and how many elements a head has there.
    fn gradient(&mut self, step: usize, (query, key): (usize, usize), count: usize, at: Option<At>) {
        let strides = [self.case.heads() * count, count, query, key].map(|s| s as i64);
        self.captured.push((step, strides, count, at));
    }
}

/// The spec of a case, forward, or with what the forward gave backward.
pub fn build(case: &Case, of_forward: Option<[&Memory; 2]>) -> Built {
    let (b, h, t, s, [d, dv]) = (case.batch, case.heads(), case.queries, case.keys, case.depths);
    let mut w = Writer { case, dag: Dag::default(), params: vec![], memory: vec![], captured: vec![], backward: of_forward.is_some() };
    for name in ["q", "k", "v"] {
        w.operand(name);
    }
    if let Some(given) = of_forward {
        for m in given {
            w.params.push(Param { elem: Elem::F32, written: false });
            w.memory.push(m.clone());
        }
        w.operand("do");
    }
    w.operand("scale");
    let access = |arg: usize, heads: usize, step: bool, row: &[usize]| {
        let whole: usize = row.iter().product();
        let mut strides = vec![heads * whole, if step { whole } else { 0 }];
        strides.extend((1..=row.len()).map(|i| row[i..].iter().product::<usize>()));
        Access { arg, offset: 0, strides: strides.into_iter().map(|s| s as i64).collect() }
    };
    let (score, dscore, weight) = w.score();
    let visible = w.visible();
    let dlse = (w.backward && case.dlse).then(|| access(w.operand("dlse"), h, true, &[t]));
    let q = |arg| access(arg, h, true, &[t, d]);
    let o = |arg| access(arg, h, true, &[t, dv]);
    let (k, v) = (|arg| access(arg, case.shared, true, &[s, d]), |arg| access(arg, case.shared, true, &[s, dv]));
    let (o_arg, lse_arg, backward) = if w.backward {
        let [dq, dk, dv_arg] = [b * h * t * d, b * case.shared * s * d, b * case.shared * s * dv].map(|n| w.result(n));
        (3, 4, vec![o(5), q(dq), k(dk), v(dv_arg)])
    } else {
        (w.result(b * h * t * dv), w.result(b * h * t), vec![])
    };
    let captured = std::mem::take(&mut w.captured).into_iter().map(|(step, strides, count, at)| {
        let access = Access { arg: w.result(b * h * count), offset: 0, strides: strides.to_vec() };
        Captured { step, access, at }
    });
    let captured = captured.collect();
    let heads = Heads {
        heads: vec![b, h],
        group: case.group,
        queries: t,
        keys: s,
        depth: d,
        value_depth: dv,
        q: q(0),
        k: k(1),
        v: v(2),
        o: o(o_arg),
        lse: access(lse_arg, h, true, &[t]),
        backward,
        score,
        visible,
        sink: None,
        weight,
        dlse,
        dscore,
        captured,
    };
    let template = if w.backward { Template::AttentionBwd(Box::new(heads)) } else { Template::Attention(Box::new(heads)) };
    Built { spec: Spec { template, dims: vec![b, h, t, s], params: w.params, dag: w.dag, stores: vec![] }, memory: w.memory }
}

impl Writer<'_> {
    /// The steps of the score, of the product's cotangent, and of the weight.
    fn score(&mut self) -> (Option<usize>, Option<usize>, Option<usize>) {
        let (h, t, s) = (self.case.heads(), self.case.queries, self.case.keys);
        let product = self.f32(Step::Product);
        let (mut x, mut dx) = (product, None);
        let g = self.backward.then(|| self.f32(Step::Cotangent));
        for term in self.case.terms.clone() {
            match term {
                Term::Cap => {
                    let c = self.load("cap", [0; 4]);
                    let u = self.bin(Bin::Div, x, c);
                    let tanh = self.f32(Step::Un(Un::Tanh, u));
                    x = self.bin(Bin::Mul, tanh, c);
                    let Some(g) = g else { continue };
                    let one = self.f32(Step::Const(1.0));
                    let square = self.bin(Bin::Mul, tanh, tanh);
                    let slope = self.bin(Bin::Sub, one, square);
                    dx = Some(self.bin(Bin::Mul, g, slope));
                    let rest = self.bin(Bin::Mul, u, slope);
                    let of_cap = self.bin(Bin::Sub, tanh, rest);
                    let dc = self.bin(Bin::Mul, g, of_cap);
                    self.gradient(dc, (0, 0), 1, None);
                }
                Term::Bias => x = self.added(x, "bias", [0, t * s, s, 1], g, ((s, 1), t * s)),
                Term::KeyBias => x = self.added(x, "key_bias", [s, 0, 0, 1], g, ((0, 1), s)),
                Term::QueryBias => x = self.added(x, "query_bias", [h * t, t, 1, 0], g, ((1, 0), t)),
                Term::Slope => {
                    let slope = self.load("slope", [0, 1, 0, 0]);
                    let between = self.index(0, -1, 1);
                    let between = self.f32(Step::Cast(between));
                    let y = self.bin(Bin::Mul, slope, between);
                    x = self.bin(Bin::Add, x, y);
                    if let Some(g) = g {
                        let dy = self.bin(Bin::Mul, g, between);
                        self.gradient(dy, (0, 0), 1, None);
                    }
                }
                Term::Relative => {
                    let index = self.index(3, -1, 1);
                    let access = self.access("relative", [0, 1, 0, 0]);
                    let y = self.f32(Step::Gather { access, row: h as i64, rows: RELATIVE as i64, index });
                    x = self.bin(Bin::Add, x, y);
                    let at = At { index, row: 1, rows: RELATIVE as i64 };
                    g.into_iter().for_each(|g| self.gradient(g, (0, 0), RELATIVE, Some(at)));
                }
                Term::Positions => x = self.by_position(x, g, [s, 1]),
                Term::Turned => x = self.by_position(x, g, [1, POSITIONS]),
                Term::LogMask => {
                    let mask = self.load("log_mask", [s, 0, 0, 1]);
                    let log = self.f32(Step::Un(Un::Log, mask));
                    x = self.bin(Bin::Add, x, log);
                    if let Some(g) = g {
                        let dm = self.bin(Bin::Div, g, mask);
                        self.gradient(dm, (0, 1), s, None);
                    }
                }
                Term::Mask => {
                    let mask = self.load("mask", [s, 0, 0, 1]);
                    x = self.hide(mask, x);
                }
                Term::Documents => {
                    let n = t.max(s);
                    let (of_query, of_key) = (self.load("documents", [n, 0, 1, 0]), self.load("documents", [n, 0, 0, 1]));
                    let same = self.bin(Bin::Eq, of_query, of_key);
                    x = self.hide(same, x);
                }
                Term::Causal | Term::Window | Term::Offset | Term::Lengths | Term::Ragged | Term::Dropout => {}
            }
        }
        let weight = self.case.has(Term::Dropout).then(|| self.dropout());
        ((x != product).then_some(x), dx, weight)
    }

    /// A term that is added, and whose gradient is the score's, summed.
    fn added(&mut self, x: usize, name: &str, strides: [usize; 4], g: Option<usize>, ((query, key), count): ((usize, usize), usize)) -> usize {
        let y = self.load(name, strides);
        g.into_iter().for_each(|g| self.gradient(g, (query, key), count, None));
        self.bin(Bin::Add, x, y)
    }

    fn by_position(&mut self, x: usize, g: Option<usize>, [row, column]: [usize; 2]) -> usize {
        let index = self.load("positions", [0, 0, 1, 0]);
        let access = self.access("table", [0, 0, 0, column]);
        let y = self.f32(Step::Gather { access, row: row as i64, rows: POSITIONS as i64, index });
        let at = At { index, row: row as i64, rows: POSITIONS as i64 };
        g.into_iter().for_each(|g| self.gradient(g, (0, column), POSITIONS * self.case.keys, Some(at)));
        self.bin(Bin::Add, x, y)
    }

    fn hide(&mut self, seen: usize, x: usize) -> usize {
        let hidden = self.f32(Step::Const(f64::NEG_INFINITY));
        self.f32(Step::Select(seen, x, hidden))
    }

    fn dropout(&mut self) -> usize {
        let (h, t, s) = (self.case.heads() as i64, self.case.queries as i64, self.case.keys as i64);
        let key = self.step(Step::Const(f64::from(KEY)), Elem::U32);
        let counter = self.step(Step::Index { offset: 0, strides: vec![h * t * s, t * s, s, 1] }, Elem::I32);
        let counter = self.step(Step::Cast(counter), Elem::U32);
        let bits = self.step(Step::Random(key, counter), Elem::U32);
        let least = self.step(Step::Const(f64::from(DROPPED)), Elem::U32);
        let drop = self.bin(Bin::Lt, bits, least);
        let (zero, kept) = (self.f32(Step::Const(0.0)), self.f32(Step::Const(4.0 / 3.0)));
        self.f32(Step::Select(drop, zero, kept))
    }

    fn visible(&mut self) -> Visible {
        let mut v = Visible::default();
        for term in self.case.terms.clone() {
            match term {
                Term::Causal => v.to.push(self.index(0, 1, 0)),
                Term::Window => v.from.push(self.index(1 - WINDOW, 1, 0)),
                Term::Offset => {
                    let (start, own) = (self.load("start", [0; 4]), self.index(0, 1, 0));
                    v.to.push(self.bin(Bin::Add, start, own));
                }
                Term::Lengths => {
                    let (length, one) = (self.load("lengths", [1, 0, 0, 0]), self.step(Step::Const(1.0), Elem::I32));
                    v.to.push(self.bin(Bin::Sub, length, one));
                }
                Term::Ragged => v.to.push(self.load("ragged", [self.case.queries, 0, 1, 0])),
                _ => {}
            }
        }
        v
    }
}
