//! Random well-typed programs: every op, awkward sizes, values that stay in a range where `f32` means something.

use crate::common::{Random, score};
use ir::{Arg, Attn, Axes, Bin, DType, Dims, Ein, Func, Graph, Lie, Loop, NodeId, Op, Red, Row, ScoreFn, Type, Un, num};

const SIZES: [usize; 8] = [1, 2, 3, 4, 5, 7, 17, 33];

pub struct Maker<'r> {
    pub r: &'r mut Random,
    pub f: Func,
    pub pool: Vec<NodeId>,
    /// State, which is read more often than other values.
    pub states: Vec<NodeId>,
    /// Whether only ops with a derivative are used.
    smooth: bool,
    /// Bodies of loops so far; `None` where there are to be none.
    pub bodies: Option<Vec<Func>>,
}

/// A program of `n` ops over a few inputs and parameters. `zero` allows axes of size 0, `loops` allows loops.
pub fn random_graph(r: &mut Random, n: usize, smooth: bool, zero: bool, loops: bool) -> Graph {
    let mut m = Maker::new(r, smooth, loops);
    let mut inputs = vec![];
    for i in 0..3 {
        let ty = Type::f32(m.dims(zero));
        let id = if smooth && i < 2 {
            m.f.add(Op::Param(format!("p{i}").as_str().into(), ty), &[])
        } else {
            inputs.push(format!("x{i}"));
            m.f.add(Op::Input(inputs.len() as u32 - 1, ty), &[])
        };
        m.pool.push(id);
    }
    let before = m.f.nodes.len();
    while m.f.nodes.len() < before + n {
        m.step();
    }
    // the last few values, so that most of the program is live
    let results: Vec<NodeId> = m.pool.iter().rev().take(3).copied().collect();
    m.f.results = results.clone();
    let outputs = (0..results.len()).map(|i| format!("y{i}")).collect();
    let mut funcs = m.bodies.unwrap_or_default();
    funcs.push(m.f);
    Graph { funcs, inputs, outputs }.sweep()
}

/// The program with one more output, `loss`: Σ c ∘ y over all its outputs, with coefficients that are not 1 and differ.
pub fn with_loss(g: &Graph) -> Graph {
    let mut f = g.main().clone();
    let mut loss = f.add(num(0.0), &[]);
    for (i, r) in f.results.clone().into_iter().enumerate() {
        let ty = f.ty(r).clone();
        if ty.dtype != DType::F32 {
            continue;
        }
        // a coefficient an element, well conditioned, that makes the sum about a mean
        let flat = f.add(Op::Reshape([ir::Dim::from(ty.count())].into_iter().collect()), &[r]);
        let index = f.add(Op::Iota(-1, ir::Dim::from(ty.count())), &[]);
        let index = f.add(Op::Cast(DType::F32), &[index]);
        let rate = f.add(num(0.01), &[]);
        let scaled = f.add(Op::Bin(Bin::Mul), &[index, rate]);
        let start = f.add(num((0.7 + i as f64) * ty.count().max(1) as f64), &[]);
        let c = f.add(Op::Bin(Bin::Add), &[scaled, start]);
        let c = f.add(Op::Un(Un::Recip), &[c]);
        let y = f.add(Op::Bin(Bin::Mul), &[flat, c]);
        let sum = f.add(Op::Reduce(Red::Sum, Axes::from_slice(&[-1])), &[y]);
        let sum = f.add(Op::Reshape(Dims::new()), &[sum]);
        loss = f.add(Op::Bin(Bin::Add), &[loss, sum]);
    }
    f.results.push(loss);
    let outputs = g.outputs.iter().cloned().chain(["loss".to_string()]).collect();
    g.with_main(f, outputs)
}

impl Maker<'_> {
    pub fn new(r: &mut Random, smooth: bool, loops: bool) -> Maker<'_> {
        Maker { r, f: Func::new("main"), pool: vec![], states: vec![], smooth, bodies: loops.then(Vec::new) }
    }

    pub fn dims(&mut self, zero: bool) -> Vec<usize> {
        let rank = 1 + self.r.below(3);
        (0..rank).map(|_| if zero && self.r.below(12) == 0 { 0 } else { SIZES[self.r.below(SIZES.len())] }).collect()
    }

    pub fn any(&mut self) -> NodeId {
        if !self.states.is_empty() && self.r.below(3) == 0 {
            return self.states[self.r.below(self.states.len())];
        }
        // recent values are likelier, so that programs are deep
        let n = self.pool.len();
        let back = self.r.below(n).min(self.r.below(n));
        self.pool[n - 1 - back]
    }

    pub fn ty(&self, id: NodeId) -> Type {
        self.f.ty(id).clone()
    }

    /// Adds an op where its type rule allows.
    pub fn try_add(&mut self, op: Op, args: &[NodeId]) -> Option<NodeId> {
        let types: Vec<&Type> = args.iter().map(|a| self.f.ty(*a)).collect();
        let ty = ir::infer(&op, &types).ok()?;
        (ty.count() <= 20_000).then(|| self.f.add(op, args))
    }

    pub fn keep(&mut self, id: Option<NodeId>) {
        if let Some(id) = id.filter(|id| self.f.ty(*id).dtype == DType::F32) {
            self.pool.push(id);
        }
    }

    /// x squashed into −1..1, so that no chain of ops grows.
    pub fn tame(&mut self, x: NodeId) -> NodeId {
        self.f.add(Op::Un(Un::Tanh), &[x])
    }

    /// x² + ½, which is positive.
    fn positive(&mut self, x: NodeId) -> NodeId {
        let x = self.tame(x);
        let square = self.f.add(Op::Bin(Bin::Mul), &[x, x]);
        let half = self.f.add(num(0.5), &[]);
        self.f.add(Op::Bin(Bin::Add), &[square, half])
    }

    pub fn step(&mut self) {
        let x = self.any();
        let new = match self.r.below(30) {
            0 | 1 => self.unary(x),
            2..=4 => self.binary(x),
            5 => self.select(x),
            6 | 7 => self.reduce(x),
            8..=10 => self.contract(x),
            11 => self.reshape(x),
            12 => self.transpose(x),
            13 => self.slice(x),
            14 => self.pad(x),
            15 => self.concat(x),
            16 => self.broadcast(x),
            17..=20 => self.row(x),
            21 => self.gather(x),
            22 => self.scatter(x),
            23 if !self.smooth => self.random(x),
            24 | 25 => self.attention(),
            26 => self.repeat(x),
            27 => self.update(x),
            28 => self.grouped(x),
            _ => self.cast(x),
        };
        self.keep(new);
    }

    fn unary(&mut self, x: NodeId) -> Option<NodeId> {
        let ops = [Un::Exp, Un::Neg, Un::Tanh, Un::Sin, Un::Cos, Un::Log, Un::Sqrt, Un::Rsqrt, Un::Recip, Un::Erf, Un::Abs];
        let un = ops[self.r.below(if self.smooth { 10 } else { 11 })];
        let x = match un {
            Un::Log | Un::Sqrt | Un::Rsqrt | Un::Recip => self.positive(x),
            _ => self.tame(x),
        };
        self.try_add(Op::Un(un), &[x])
    }

    fn binary(&mut self, x: NodeId) -> Option<NodeId> {
        let y = match self.r.below(3) {
            0 => self.f.add(num(self.r.below(9) as f64 / 4.0 - 1.0), &[]),
            _ => self.any(),
        };
        let bins = [Bin::Add, Bin::Sub, Bin::Mul, Bin::Div, Bin::Maximum, Bin::Minimum];
        let bin = bins[self.r.below(if self.smooth { 4 } else { 6 })];
        let y = if bin == Bin::Div { self.positive(y) } else { y };
        self.try_add(Op::Bin(bin), &[x, y])
    }

    fn select(&mut self, x: NodeId) -> Option<NodeId> {
        let rank = self.ty(x).rank();
        if rank == 0 {
            return None;
        }
        let i = self.f.add(Op::Iota(-1, self.ty(x).dim(-1)), &[]);
        // or by bits of the place
        let i = if self.r.below(2) == 0 { i } else { self.bits(i) };
        let n = self.f.add(Op::Const(2f64.to_bits(), DType::I32), &[]);
        let p = self.f.add(Op::Bin([Bin::Lt, Bin::Le, Bin::Eq][self.r.below(3)]), &[i, n]);
        let other = self.f.add(num(0.25), &[]);
        self.try_add(Op::Select, &[p, x, other])
    }

    /// Whole numbers made of bits of others, with a sign or without, shifted by as much as a word has and by more.
    fn bits(&mut self, i: NodeId) -> NodeId {
        let dtype = [DType::I32, DType::U32][self.r.below(2)];
        let constant = |g: &mut Self, n: f64| g.f.add(Op::Const(n.to_bits(), dtype), &[]);
        let factor = constant(self, if dtype == DType::U32 { 2_654_435_769.0 } else { -1_640_531_527.0 });
        let (mask, shift) = ([0.0, 3.0, 255.0][self.r.below(3)], [0.0, 1.0, 29.0, 31.0, 33.0][self.r.below(5)]);
        let (shift, mask) = (constant(self, shift), constant(self, mask));
        let i = self.f.add(Op::Cast(dtype), &[i]);
        let mixed = self.f.add(Op::Bin(Bin::Mul), &[i, factor]);
        let shifted = self.f.add(Op::Bin(Bin::Shr), &[mixed, shift]);
        let own = if self.r.below(3) == 0 { shifted } else { self.f.add(Op::Bin(Bin::And), &[shifted, mask]) };
        self.f.add(Op::Cast(DType::I32), &[own])
    }

    fn reduce(&mut self, x: NodeId) -> Option<NodeId> {
        let rank = self.ty(x).rank() as i8;
        let axes: Axes = (1..=rank).map(|a| -a).filter(|_| self.r.below(2) == 0).collect();
        if axes.is_empty() || (self.ty(x).sizes().contains(&0) && self.smooth) {
            return None;
        }
        let red = if self.smooth || self.ty(x).sizes().contains(&0) || self.r.below(3) > 0 { Red::Sum } else { Red::Max };
        let y = self.try_add(Op::Reduce(red, axes), &[x])?;
        Some(self.tame(y))
    }

    fn contract(&mut self, x: NodeId) -> Option<NodeId> {
        let y = self.any();
        let (a, b) = (self.ty(x).sizes(), self.ty(y).sizes());
        // labels: x's axes in order; y's axes reuse a label of equal size or get a new one
        let la: Vec<u8> = (0..a.len() as u8).collect();
        let mut lb: Vec<u8> = vec![];
        for (j, n) in b.iter().enumerate() {
            let same = la.iter().copied().filter(|l| a[usize::from(*l)] == *n && !lb.contains(l)).collect::<Vec<_>>();
            lb.push(if !same.is_empty() && self.r.below(4) > 0 { same[self.r.below(same.len())] } else { (a.len() + j) as u8 });
        }
        let mut out: Vec<u8> = la.iter().chain(&lb).copied().collect();
        out.sort_unstable();
        out.dedup();
        let shared = |l: &u8| la.contains(l) && lb.contains(l);
        out.retain(|l| !shared(l) || self.r.below(4) == 0);
        for i in (1..out.len()).rev() {
            out.swap(i, self.r.below(i + 1));
        }
        let y = self.try_add(Op::Contract(Ein::new(&la, &lb, &out)), &[x, y])?;
        Some(self.tame(y))
    }

    fn reshape(&mut self, x: NodeId) -> Option<NodeId> {
        let sizes = self.ty(x).sizes();
        let n: usize = sizes.iter().product();
        let dims: Vec<usize> = match self.r.below(3) {
            0 => vec![n],
            1 => std::iter::once(1).chain(sizes).collect(),
            _ => {
                let d = (2..=n).find(|d| n.is_multiple_of(*d)).unwrap_or(1);
                if n == 0 { vec![0, 3] } else { vec![n / d, d] }
            }
        };
        self.try_add(Op::Reshape(dims.into_iter().map(ir::Dim::from).collect()), &[x])
    }

    fn transpose(&mut self, x: NodeId) -> Option<NodeId> {
        let mut order: Vec<u8> = (0..self.ty(x).rank() as u8).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, self.r.below(i + 1));
        }
        self.try_add(Op::Transpose(order.into_iter().collect()), &[x])
    }

    fn axis(&mut self, x: NodeId) -> Option<(i8, usize)> {
        let rank = self.ty(x).rank();
        (rank > 0).then(|| {
            let a = -1 - self.r.below(rank) as i8;
            (a, self.ty(x).dim(a).size())
        })
    }

    fn slice(&mut self, x: NodeId) -> Option<NodeId> {
        let (a, n) = self.axis(x)?;
        let lo = self.r.below(n + 1);
        let hi = lo + self.r.below(n - lo + 1);
        if hi == lo && self.smooth {
            return None;
        }
        self.try_add(Op::Slice(a, lo as u32, hi as u32), &[x])
    }

    fn pad(&mut self, x: NodeId) -> Option<NodeId> {
        let (a, _) = self.axis(x)?;
        let (before, after) = (self.r.below(4) as u32, self.r.below(4) as u32);
        self.try_add(Op::Pad(a, before, after), &[x])
    }

    fn concat(&mut self, x: NodeId) -> Option<NodeId> {
        let (a, _) = self.axis(x)?;
        let y = self.tame(x);
        self.try_add(Op::Concat(a), &[x, y, x])
    }

    fn broadcast(&mut self, x: NodeId) -> Option<NodeId> {
        let sizes = self.ty(x).sizes();
        if sizes.len() > 3 {
            return None;
        }
        let dims = std::iter::once(3).chain(sizes.iter().map(|d| if *d == 1 { 5 } else { *d })).map(ir::Dim::from).collect();
        self.try_add(Op::Broadcast(dims), &[x])
    }

    fn row(&mut self, x: NodeId) -> Option<NodeId> {
        use Row::*;
        let ty = self.ty(x);
        if ty.rank() == 0 || ty.sizes().contains(&0) {
            return None;
        }
        let rows = [Softmax, LogSumExp, LayerNorm, RmsNorm, Sigmoid, Gelu, Silu, Swiglu, GeluGrad, SoftmaxBwd, LayerNormBwd, RmsNormBwd];
        let row = rows[self.r.below(rows.len())];
        let eps = self.f.add(num(0.01), &[]);
        let y = self.tame(x);
        match row {
            LayerNorm | RmsNorm => self.try_add(Op::Row(row), &[x, eps]),
            LayerNormBwd | RmsNormBwd => self.try_add(Op::Row(row), &[x, eps, y]),
            Swiglu | SoftmaxBwd => self.try_add(Op::Row(row), &[x, y]),
            _ => self.try_add(Op::Row(row), &[x]),
        }
    }

    /// Whole numbers from −1 to n, some outside 0..n.
    pub fn index(&mut self, dims: &[usize], n: usize) -> NodeId {
        let rank = dims.len() as i8;
        let mut i = self.f.add(Op::Const(0f64.to_bits(), DType::I32), &[]);
        for (k, d) in dims.iter().enumerate() {
            let step = self.f.add(Op::Iota(k as i8 - rank, ir::Dim::from(*d)), &[]);
            i = self.f.add(Op::Bin(Bin::Add), &[i, step]);
        }
        let f = self.f.add(Op::Cast(DType::F32), &[i]);
        let f = self.f.add(Op::Un(Un::Sin), &[f]);
        let scale = self.f.add(num(n as f64 + 0.5), &[]);
        let f = self.f.add(Op::Bin(Bin::Mul), &[f, scale]);
        self.f.add(Op::Cast(DType::I32), &[f])
    }

    fn gather(&mut self, x: NodeId) -> Option<NodeId> {
        let n = self.ty(x).sizes().first().copied().filter(|n| *n > 0)?;
        let dims: Vec<usize> = [vec![3], vec![2, 5]][self.r.below(2)].clone();
        let i = self.index(&dims, n);
        self.try_add(Op::Gather, &[x, i])
    }

    /// Rows by matrices of their groups, or the groups' sums.
    fn grouped(&mut self, x: NodeId) -> Option<NodeId> {
        let sizes = self.ty(x).sizes();
        let (c, rest) = sizes.split_last()?;
        let n = rest.iter().product();
        let y = self.any();
        let most = self.ty(y).count().checked_div(*c)?;
        let e = (2..=most).find(|e| most.is_multiple_of(*e)).unwrap_or(1);
        let turned = self.r.below(2) == 0;
        let f = most / e;
        let shape = |dims: &[usize]| Op::Reshape(dims.iter().map(|d| ir::Dim::from(*d)).collect());
        let a = self.try_add(shape(&[n, *c]), &[x])?;
        let w = self.try_add(shape(&if turned { [e, f, *c] } else { [e, *c, f] }), &[y])?;
        let group = self.index(&[n], e);
        let y = self.try_add(Op::Grouped(if turned { Lie::Turned } else { Lie::Plain }), &[a, w, group])?;
        let y = self.tame(y);
        if self.r.below(2) == 0 {
            return Some(y);
        }
        let sum = self.try_add(Op::GroupedSum(ir::Dim::from(e)), &[a, y, group])?;
        Some(self.tame(sum))
    }

    fn scatter(&mut self, x: NodeId) -> Option<NodeId> {
        let sizes = self.ty(x).sizes();
        let n = sizes.first().copied().filter(|n| *n > 0)?;
        let i = self.index(&[4], n);
        let updates = self.try_add(Op::Gather, &[x, i])?;
        let updates = self.tame(updates);
        self.try_add(Op::ScatterAdd, &[x, i, updates])
    }

    /// Some of what it holds, or of what was made of that, at a start that is one for all or each row's own.
    pub fn update(&mut self, x: NodeId) -> Option<NodeId> {
        let (a, n) = self.axis(x)?;
        let own = self.r.below(2) == 0;
        let start: Vec<usize> = self.ty(x).sizes().iter().enumerate().map(|(i, d)| if own && i == 0 { *d } else { 1 }).collect();
        let start: Vec<usize> = start.iter().enumerate().map(|(i, d)| if i as i8 - start.len() as i8 == a { 1 } else { *d }).collect();
        let start = self.index(&start, n);
        let n = self.r.below(n + 1) as u32;
        let values = self.try_add(Op::Slice(a, 0, n), &[x])?;
        let values = if self.r.below(2) == 0 && self.ty(x).dtype == DType::F32 { self.tame(values) } else { values };
        self.try_add(Op::Update(a), &[x, values, start])
    }

    fn random(&mut self, x: NodeId) -> Option<NodeId> {
        let key = self.f.add(Op::Const(f64::from(self.r.bits()).to_bits(), DType::U32), &[]);
        let bits = self.try_add(Op::RandomBits(self.ty(x).dims), &[key])?;
        let limit = self.f.add(Op::Const(1e9f64.to_bits(), DType::U32), &[]);
        let p = self.f.add(Op::Bin(Bin::Le), &[limit, bits]);
        let zero = self.f.add(num(0.0), &[]);
        self.try_add(Op::Select, &[p, x, zero])
    }

    fn cast(&mut self, x: NodeId) -> Option<NodeId> {
        let half = self.f.add(num(0.1), &[]);
        let p = self.f.add(Op::Bin(Bin::Lt), &[half, x]);
        // differences would see through a stopped gradient
        if self.smooth { None } else { self.try_add(Op::Cast(DType::F32), &[p]) }
    }

    /// A loop that carries a value like x, reads a slice an iteration and x itself, and stacks what it carried before and what it made.
    fn repeat(&mut self, x: NodeId) -> Option<NodeId> {
        let ty = self.ty(x);
        let trip = 1 + self.r.below(4) as u32;
        if self.bodies.is_none() || ty.sizes().contains(&0) || ty.count() > 2000 || ty.rank() == 0 {
            return None;
        }
        let mut f = Func::new("loop");
        let [round, own, same] = [0, 1, 2].map(|i| f.add(Op::Input(i, ty.clone()), &[]));
        let product = f.add(Op::Bin(Bin::Mul), &[round, own]);
        let sum = f.add(Op::Bin(Bin::Add), &[product, same]);
        let next = match self.r.below(3) {
            0 => f.add(Op::Un(Un::Tanh), &[sum]),
            1 => f.add(Op::Row(Row::Softmax), &[sum]),
            _ => {
                let width = ty.dim(-1).size();
                let rows = ty.count() / width.max(1);
                let flat = |f: &mut Func, v| f.add(Op::Reshape([rows, width].into_iter().map(ir::Dim::from).collect()), &[v]);
                let (a, b) = (flat(&mut f, sum), flat(&mut f, own));
                let gram = f.add(Op::Contract("ab,cb->ac".parse().unwrap()), &[a, b]);
                let back = f.add(Op::Contract("ac,cb->ab".parse().unwrap()), &[gram, a]);
                let back = f.add(Op::Un(Un::Tanh), &[back]);
                f.add(Op::Reshape(ty.dims.clone()), &[back])
            }
        };
        f.results = vec![next, round, sum];
        let scale = self.f.add(num(0.3), &[]);
        let stack: Dims = std::iter::once(ir::Dim::from(trip)).chain(ty.dims.iter().copied()).collect();
        let spread = self.f.add(Op::Broadcast(stack), &[x]);
        let own = self.f.add(Op::Bin(Bin::Mul), &[spread, scale]);
        let start = self.tame(x);
        let bodies = self.bodies.as_mut()?;
        let l = Loop { func: bodies.len() as u32, trip, carried: 1, stacked: 1, reverse: self.r.below(3) == 0 };
        bodies.push(f);
        let args = [start, own, x];
        let types: Vec<&Type> = args.iter().map(|a| self.f.ty(*a)).collect();
        let ty = Graph::repeat_type(bodies, &l, &types).expect("the loop is well-typed");
        let all = self.f.add_typed(Op::Repeat(l), &args, ty);
        for i in 0..2 {
            let member = self.f.add(Op::Get(i), &[all]);
            self.keep(Some(member));
        }
        Some(self.f.add(Op::Get(2), &[all]))
    }

    /// Attention over values made for it, in a random layout, grouped or not, with a random function of its scores.
    fn attention(&mut self) -> Option<NodeId> {
        let x = self.any();
        let small = [1, 2, 3, 5, 9, 20];
        let mut size = || small[self.r.below(small.len())];
        let (t, s, d, e) = (size(), size(), size(), size());
        let (b, kv, group) = (1 + self.r.below(2), 1 + self.r.below(2), 1 + self.r.below(3));
        let h = kv * group;
        // labels: b = 0, h = 1, t = 2, s = 3, d = 4, e = 5
        let sizes = |l: u8, own: bool| match l {
            0 => b,
            1 => {
                if own {
                    h
                } else {
                    kv
                }
            }
            2 => t,
            3 => s,
            4 => d,
            _ => e,
        };
        let layout = self.r.below(2);
        let labels = |position: u8, depth: u8| if layout == 0 { [0, 1, position, depth] } else { [0, position, 1, depth] };
        let make = |m: &mut Self, labels: [u8; 4], own: bool, rate: f64| {
            let dims: Vec<usize> = labels.iter().map(|l| sizes(*l, own)).collect();
            m.waves(x, &dims, rate)
        };
        let (ql, kl, vl, ol) = (labels(2, 4), labels(3, 4), labels(3, 5), labels(2, 5));
        let (q, k, v) = (make(self, ql, true, 0.3), make(self, kl, false, 0.7), make(self, vl, false, 1.1));
        let of = |l: [u8; 4]| l.into_iter().collect::<ir::Labels>();
        let (f, captured) = self.score_fn(x, [b, h, t, s]);
        let f = f.canonical().into();
        let attn = Attn { q: of(ql), k: of(kl), v: of(vl), o: of(ol), scores: 4, f, group: group as u32, head: u8::from(group > 1) };
        let scale = self.f.add(num(0.6), &[]);
        let args: Vec<NodeId> = [q, k, v, scale].into_iter().chain(captured).collect();
        let a = self.f.add(Op::Attention(attn), &args);
        self.try_add(Op::Get(0), &[a])
    }

    /// A value of these dims that differs from element to element, and that depends on all of x: what is differentiated for reaches it.
    fn waves(&mut self, x: NodeId, dims: &[usize], rate: f64) -> NodeId {
        let i = self.f.add(Op::Iota(-1, ir::Dim::from(dims.iter().product::<usize>())), &[]);
        let f = self.f.add(Op::Cast(DType::F32), &[i]);
        let rate = self.f.add(num(rate), &[]);
        let f = self.f.add(Op::Bin(Bin::Mul), &[f, rate]);
        let f = self.f.add(Op::Un(Un::Sin), &[f]);
        let axes: Axes = (1..=self.ty(x).rank() as i8).map(|a| -a).collect();
        let total = if axes.is_empty() { x } else { self.f.add(Op::Reduce(Red::Sum, axes), &[x]) };
        let total = self.f.add(Op::Reshape(Dims::new()), &[total]);
        let total = self.tame(total);
        let f = self.f.add(Op::Bin(Bin::Mul), &[f, total]);
        self.f.add(Op::Reshape(dims.iter().copied().map(ir::Dim::from).collect()), &[f])
    }

    /// What becomes of a score of a batch, a head, a query and a key: half are plain or causal, the others a few terms, and then masks.
    fn score_fn(&mut self, x: NodeId, [b, h, t, s]: [usize; 4]) -> (ScoreFn, Vec<NodeId>) {
        if self.r.below(2) == 0 {
            return (score(self.r.below(2) == 0).as_ref().clone(), vec![]);
        }
        let mut c = Score { f: ScoreFn::default(), captured: vec![] };
        for _ in 0..1 + self.r.below(3) {
            let shapes = [vec![], vec![s], vec![t, 1], vec![t, s], vec![h, 1, 1], vec![b, 1, 1, s], vec![b, h, t, s], vec![1, h, 1, s]];
            let (shape, rate) = (self.r.below(shapes.len()), 0.3 + self.r.below(9) as f64 / 10.0);
            match self.r.below(4) {
                0 => c.cap(),
                1 => {
                    let own = self.waves(x, &shapes[shape], rate);
                    c.with(Bin::Mul, own);
                }
                2 => c.slope(self.waves(x, &[h, 1, 1], rate)),
                _ => {
                    let own = self.waves(x, &shapes[shape], rate);
                    c.with(Bin::Add, own);
                }
            }
        }
        for _ in 0..self.r.below(3) {
            let n = self.r.below(s + 2) as f64 - 1.0;
            match self.r.below(4) {
                0 => c.hide(Bin::Le, |c| (Arg::Key, c.sum(Arg::Query, n))),
                1 => c.hide(Bin::Lt, |c| (Arg::Query, c.sum(Arg::Key, n))),
                2 => {
                    // documents: positions in threes belong together
                    let [queries, keys] = [(t, true), (s, false)].map(|(n, of_queries)| self.threes(n, of_queries));
                    let (i, j) = (c.capture(queries), c.capture(keys));
                    c.hide(Bin::Eq, |_| (i, j));
                }
                _ => c.hide(Bin::Lt, |c| (Arg::Key, c.int(n))),
            }
        }
        if self.r.below(3) == 0 {
            c.drop([b, h, t, s]);
        }
        if self.r.below(4) == 0 {
            let sink = self.waves(x, &[h, 1, 1], 0.9);
            let Arg::Captured(i) = c.capture(sink) else { unreachable!("an operand is captured") };
            c.f.sink = Some(i);
        }
        (c.f, c.captured)
    }

    /// A third of each position, as a column where it is of queries.
    fn threes(&mut self, n: usize, of_queries: bool) -> NodeId {
        let i = self.f.add(Op::Iota(-1, ir::Dim::from(n)), &[]);
        let x = self.f.add(Op::Cast(DType::F32), &[i]);
        let third = self.f.add(num(1.0 / 3.0), &[]);
        let x = self.f.add(Op::Bin(Bin::Mul), &[x, third]);
        let x = self.f.add(Op::Cast(DType::I32), &[x]);
        let dims: Dims = if of_queries { vec![n, 1] } else { vec![n] }.into_iter().map(ir::Dim::from).collect();
        self.f.add(Op::Reshape(dims), &[x])
    }
}

/// A function of scores while it is made.
struct Score {
    f: ScoreFn,
    captured: Vec<NodeId>,
}

impl Score {
    fn capture(&mut self, id: NodeId) -> Arg {
        self.captured.push(id);
        Arg::Captured(self.captured.len() as u8 - 1)
    }
    fn int(&mut self, x: f64) -> Arg {
        self.f.step(Op::Const(x.to_bits(), DType::I32), &[])
    }
    fn sum(&mut self, a: Arg, n: f64) -> Arg {
        let n = self.int(n);
        self.f.step(Op::Bin(Bin::Add), &[a, n])
    }
    fn bin(&mut self, bin: Bin, a: Arg, b: Arg) -> Arg {
        self.f.step(Op::Bin(bin), &[a, b])
    }
    /// The score beside an operand.
    fn with(&mut self, bin: Bin, id: NodeId) {
        let own = self.capture(id);
        self.f.score = self.bin(bin, self.f.score, own);
    }
    fn cap(&mut self) {
        let two = self.f.step(num(2.0), &[]);
        let half = self.f.step(num(0.5), &[]);
        let x = self.bin(Bin::Mul, self.f.score, half);
        let x = self.f.step(Op::Un(Un::Tanh), &[x]);
        self.f.score = self.bin(Bin::Mul, x, two);
    }
    fn slope(&mut self, id: NodeId) {
        let own = self.capture(id);
        let far = self.bin(Bin::Sub, Arg::Key, Arg::Query);
        let far = self.f.step(Op::Cast(DType::F32), &[far]);
        let slope = self.bin(Bin::Mul, far, own);
        self.f.score = self.bin(Bin::Add, self.f.score, slope);
    }
    /// Hides what a comparison does not hold of.
    fn hide(&mut self, bin: Bin, of: impl FnOnce(&mut Self) -> (Arg, Arg)) {
        let (a, b) = of(self);
        let (seen, lowest) = (self.bin(bin, a, b), self.f.step(num(f64::NEG_INFINITY), &[]));
        self.f.score = self.f.step(Op::Select, &[seen, self.f.score, lowest]);
    }
    /// Drops a quarter of the probabilities.
    fn drop(&mut self, scores: [usize; 4]) {
        let key = self.f.step(Op::Const(5f64.to_bits(), DType::U32), &[]);
        let bits = self.f.step(Op::RandomBits(scores.into_iter().map(ir::Dim::from).collect()), &[key]);
        let least = self.f.step(Op::Const(f64::from(1u32 << 30).to_bits(), DType::U32), &[]);
        let (kept, zero) = (self.f.step(num(4.0 / 3.0), &[]), self.f.step(num(0.0), &[]));
        let keep = self.bin(Bin::Le, least, bits);
        self.f.weight = Some(self.f.step(Op::Select, &[keep, kept, zero]));
    }
}
