//! Random programs with state: one to four results named `@path`, made by every template, read before and after in every pattern.

use crate::common::{Random, score};
use crate::random_graphs::Maker;
use ir::{Attn, Axes, Bin, DType, Dim, Dims, Func, Graph, Loop, NodeId, Op, Red, Row, Type, Un, num};

/// A program whose state has a few types, of which several tensors may share one. `loops` allows loops.
pub fn random_state_graph(r: &mut Random, loops: bool) -> Graph {
    let mut m = Maker::new(r, false, loops);
    let first = state_type(&mut m);
    let mut types = vec![first.clone()];
    for _ in 0..m.r.below(4) {
        types.push(if m.r.below(3) > 0 { first.clone() } else { state_type(&mut m) });
    }
    // 16-bit floats do not come from outside
    let like = if first.dtype.is_half() { DType::F32 } else { first.dtype };
    let inputs = [Type::of(like, first.sizes()), Type::f32(m.dims(false))];
    for (i, ty) in inputs.iter().enumerate() {
        let x = m.f.add(Op::Input(i as u32, ty.clone()), &[]);
        m.keep(Some(x));
    }
    let all: Vec<NodeId> = types.iter().enumerate().map(|(i, ty)| m.f.add(Op::Param(format!("s{i}").as_str().into(), ty.clone()), &[])).collect();
    for s in &all {
        let value = as_float(&mut m, *s);
        m.states.push(value);
        m.pool.push(value);
    }
    let mut w = Writer { m, all, new: vec![] };
    w.reads();
    for s in 0..types.len() {
        let value = w.new_value(s);
        w.new.push(value);
        if w.m.r.below(2) == 0 {
            w.m.keep(Some(value));
        }
        if w.m.r.below(3) == 0 {
            w.reads();
        }
    }
    w.reads();
    w.finish()
}

/// Mostly numbers, few enough that evaluation is quick; at times more than one unit of work, and at times none.
fn state_type(m: &mut Maker) -> Type {
    let wide = [vec![1, 4100], vec![4100], vec![2, 2100], vec![9000]];
    let dims = match m.r.below(12) {
        0 => wide[m.r.below(4)].clone(),
        1 => vec![],
        2 => vec![5, 5],
        _ => std::iter::repeat_with(|| m.dims(true)).find(|d| d.iter().product::<usize>() <= 600).unwrap(),
    };
    let others = [DType::I32, DType::U32, DType::Bool, DType::BF16, DType::F16];
    let dtype = if m.r.below(5) == 0 { others[m.r.below(5)] } else { DType::F32 };
    Type::of(dtype, dims)
}

/// A value as `f32`, small.
fn as_float(m: &mut Maker, x: NodeId) -> NodeId {
    if m.ty(x).dtype == DType::F32 {
        return x;
    }
    let x = m.f.add(Op::Cast(DType::F32), &[x]);
    let scale = m.f.add(num(0.25), &[]);
    m.f.add(Op::Bin(Bin::Mul), &[x, scale])
}

struct Writer<'r> {
    m: Maker<'r>,
    /// The state as it was.
    all: Vec<NodeId>,
    /// What it becomes, so far.
    new: Vec<NodeId>,
}

fn dims_of(sizes: &[usize]) -> Dims {
    sizes.iter().map(|d| Dim::from(*d)).collect()
}

impl Writer<'_> {
    fn reads(&mut self) {
        for _ in 0..self.m.r.below(4) {
            self.m.step();
        }
    }

    fn bin(&mut self, bin: Bin, a: NodeId, b: NodeId) -> NodeId {
        self.m.f.add(Op::Bin(bin), &[a, b])
    }

    fn scaled(&mut self, x: NodeId, by: f64) -> NodeId {
        let c = self.m.f.add(num(by), &[]);
        self.bin(Bin::Mul, x, c)
    }

    fn reshaped(&mut self, x: NodeId, sizes: &[usize]) -> NodeId {
        self.m.f.add(Op::Reshape(dims_of(sizes)), &[x])
    }

    /// The new value of a state tensor, of its type.
    fn new_value(&mut self, s: usize) -> NodeId {
        let (own, ty) = (self.all[s], self.m.ty(self.all[s]));
        // a pattern over this state, or over another of its type
        let alike: Vec<NodeId> = self.all.iter().copied().filter(|t| self.m.ty(*t) == ty).collect();
        let from = alike[self.m.r.below(alike.len())];
        let value = match self.m.r.below(8) {
            0 => Some(from),
            1 => self.new.iter().copied().find(|v| self.m.ty(*v) == ty),
            2 => self.moved(from),
            _ if ty.dtype == DType::F32 => self.computed(from),
            _ => self.counted(from),
        };
        let value = value.filter(|v| self.m.ty(*v) == ty).unwrap_or(own);
        if ty.dtype == DType::F32 && self.m.r.below(3) == 0 {
            // what is computed in a later kernel, or in the same
            let (half, quarter) = (self.scaled(value, 0.5), self.scaled(own, 0.25));
            return self.bin(Bin::Sub, half, quarter);
        }
        value
    }

    /// Elements in other places: any type of state.
    fn moved(&mut self, x: NodeId) -> Option<NodeId> {
        let sizes = self.m.ty(x).sizes();
        let (rank, count) = (sizes.len(), sizes.iter().product::<usize>());
        if rank == 0 {
            return Some(x);
        }
        let axis = self.m.r.below(rank);
        let (a, n) = (axis as i8 - rank as i8, sizes[axis]);
        let cut = self.m.r.below(n + 1) as u32;
        let part = |w: &mut Self, lo: u32, hi: u32| w.m.f.add(Op::Slice(a, lo, hi), &[x]);
        match self.m.r.below(8) {
            6 | 7 => self.m.update(x),
            0 => {
                let (low, high) = (part(self, 0, cut), part(self, cut, n as u32));
                let order = if self.m.r.below(3) == 0 { [low, high] } else { [high, low] };
                self.m.try_add(Op::Concat(a), &order)
            }
            1 => {
                let inner = part(self, cut, n as u32);
                let before = self.m.r.below(cut as usize + 1) as u32;
                self.m.try_add(Op::Pad(a, before, cut - before), &[inner])
            }
            2 => {
                let order = (0..rank as u8).rev().collect();
                let turned = self.m.f.add(Op::Transpose(order), &[x]);
                Some(self.reshaped(turned, &sizes))
            }
            3 => {
                let double = self.m.try_add(Op::Concat(a), &[x, x])?;
                self.m.try_add(Op::Slice(a, cut, cut + n as u32), &[double])
            }
            4 if sizes[0] > 0 && count < 2000 => {
                let i = self.m.index(&sizes[..1], sizes[0]);
                self.m.try_add(Op::Gather, &[x, i])
            }
            _ => {
                let flat = self.reshaped(x, &[count]);
                let n = count as u32;
                let half = n / 2;
                let (low, high) = (self.m.f.add(Op::Slice(-1, 0, half), &[flat]), self.m.f.add(Op::Slice(-1, half, n), &[flat]));
                let all = self.m.try_add(Op::Concat(-1), &[high, low])?;
                Some(self.reshaped(all, &sizes))
            }
        }
    }

    /// Types that are no `f32`: arithmetic that both sides do exactly.
    fn counted(&mut self, x: NodeId) -> Option<NodeId> {
        let ty = self.m.ty(x);
        let number = |w: &mut Self, n: f64| w.m.f.add(Op::Const(n.to_bits(), ty.dtype), &[]);
        match ty.dtype {
            DType::I32 | DType::U32 => {
                let n = 1.0 + self.m.r.below(5) as f64;
                let n = number(self, n);
                let op = [Bin::Add, Bin::Maximum, Bin::Minimum][self.m.r.below(3)];
                let x = self.bin(op, x, n);
                if self.m.r.below(2) == 0 { self.moved(x) } else { Some(x) }
            }
            DType::Bool => {
                let (yes, no) = (number(self, 1.0), number(self, 0.0));
                let turned = self.m.f.add(Op::Select, &[x, no, yes]);
                if self.m.r.below(2) == 0 { self.moved(turned) } else { Some(turned) }
            }
            _ => {
                let wide = self.m.f.add(Op::Cast(DType::F32), &[x]);
                let less = self.scaled(wide, -0.5);
                let back = self.m.f.add(Op::Cast(ty.dtype), &[less]);
                if self.m.r.below(2) == 0 { self.moved(back) } else { Some(back) }
            }
        }
    }

    /// A value of every template, like `x`.
    fn computed(&mut self, x: NodeId) -> Option<NodeId> {
        let sizes = self.m.ty(x).sizes();
        let width = sizes.last().copied().unwrap_or(1);
        let rows = sizes.iter().product::<usize>().checked_div(width).unwrap_or(0);
        let small = rows > 0 && width > 0 && rows <= 64 && width <= 64;
        let ranked = !sizes.is_empty() && !sizes.contains(&0);
        match self.m.r.below(16) {
            14 | 15 if ranked && sizes[0] <= 7 => self.kept(x),
            0 | 1 => self.mapped(x),
            2 if ranked => self.rows(x),
            3 | 4 if ranked => self.reduced(x),
            5 | 6 if small => self.product(x, [rows, width]),
            7 if small => self.attention(x, [rows, width], false),
            8 if small => self.attention(x, [rows, width], true),
            9 | 10 if ranked => self.scattered(x),
            11 | 12 if ranked && sizes[0] <= 7 => self.looped(x),
            13 => {
                let c = self.m.f.add(num(0.375), &[]);
                self.m.try_add(Op::Broadcast(dims_of(&sizes)), &[c])
            }
            _ => {
                let moved = self.moved(x)?;
                let sum = self.bin(Bin::Add, moved, x);
                Some(self.m.tame(sum))
            }
        }
    }

    /// Elementwise with whatever broadcasts to it.
    fn mapped(&mut self, x: NodeId) -> Option<NodeId> {
        let sizes = self.m.ty(x).dims;
        let candidates: Vec<NodeId> = (0..8).map(|_| self.m.any()).collect();
        let fits = |y: &NodeId| ir::broadcast(&[self.m.f.ty(x), self.m.f.ty(*y)]).is_ok_and(|d| d == sizes);
        let other = candidates.into_iter().find(fits).unwrap_or(x);
        let (a, b) = (self.scaled(x, 0.9), self.scaled(other, 0.1));
        let ops = [Bin::Add, Bin::Sub, Bin::Maximum];
        let op = ops[self.m.r.below(3)];
        Some(self.bin(op, a, b))
    }

    fn rows(&mut self, x: NodeId) -> Option<NodeId> {
        let eps = self.m.f.add(num(0.1), &[]);
        match self.m.r.below(3) {
            0 => self.m.try_add(Op::Row(Row::Softmax), &[x]),
            1 => self.m.try_add(Op::Row(Row::LayerNorm), &[x, eps]),
            _ => self.m.try_add(Op::Row(Row::RmsNorm), &[x, eps]),
        }
    }

    /// With sums over some axes of it, or of its square.
    fn reduced(&mut self, x: NodeId) -> Option<NodeId> {
        let rank = self.m.ty(x).rank() as i8;
        let axes: Axes = (1..=rank).map(|a| -a).filter(|_| self.m.r.below(2) == 0).collect();
        let square = self.bin(Bin::Mul, x, x);
        let from = if self.m.r.below(2) == 0 { square } else { x };
        let red = if self.m.r.below(3) == 0 { Red::Max } else { Red::Sum };
        let sum = if axes.is_empty() { from } else { self.m.try_add(Op::Reduce(red, axes), &[from])? };
        let sum = self.m.tame(sum);
        self.m.keep(Some(sum));
        let back = self.m.f.add(Op::Broadcast(self.m.ty(x).dims), &[sum]);
        Some(if self.m.r.below(2) == 0 { self.bin(Bin::Sub, x, back) } else { back })
    }

    /// (x xᵀ) x, alone or with an epilogue that reads the state.
    fn product(&mut self, x: NodeId, [rows, width]: [usize; 2]) -> Option<NodeId> {
        let sizes = self.m.ty(x).sizes();
        let flat = self.reshaped(x, &[rows, width]);
        let gram = self.m.try_add(Op::Contract("ab,cb->ac".parse().unwrap()), &[flat, flat])?;
        let gram = self.m.tame(gram);
        let back = self.m.try_add(Op::Contract("ac,cb->ab".parse().unwrap()), &[gram, flat])?;
        let value = match self.m.r.below(3) {
            0 => {
                let back = self.scaled(back, 1.0 / rows as f64);
                self.bin(Bin::Sub, flat, back)
            }
            1 => self.m.tame(back),
            _ => self.scaled(back, 1.0 / rows as f64),
        };
        Some(self.reshaped(value, &sizes))
    }

    /// Attention of a state to itself, and a gradient of it.
    fn attention(&mut self, x: NodeId, [rows, width]: [usize; 2], backward: bool) -> Option<NodeId> {
        let sizes = self.m.ty(x).sizes();
        let of = |l: [u8; 4]| l.into_iter().collect::<ir::Labels>();
        let f = score(self.m.r.below(2) == 0);
        let attn = Attn { q: of([0, 2, 1, 4]), k: of([0, 3, 1, 4]), v: of([0, 3, 1, 5]), o: of([0, 2, 1, 5]), scores: 4, f, group: 1, head: 0 };
        let q = self.reshaped(x, &[1, rows, 1, width]);
        let other = self.m.tame(q);
        let v = if self.m.r.below(2) == 0 { q } else { other };
        let scale = self.m.f.add(num(0.5), &[]);
        let all = self.m.try_add(Op::Attention(attn.clone()), &[q, q, v, scale])?;
        let (o, lse) = (self.m.f.add(Op::Get(0), &[all]), self.m.f.add(Op::Get(1), &[all]));
        if !backward {
            return Some(self.reshaped(o, &sizes));
        }
        let all = self.m.try_add(Op::AttentionBwd(attn), &[q, q, v, o, lse, q, scale])?;
        let which = self.m.r.below(3) as u32;
        let g = self.m.f.add(Op::Get(which), &[all]);
        let g = self.reshaped(g, &sizes);
        Some(self.m.tame(g))
    }

    fn scattered(&mut self, x: NodeId) -> Option<NodeId> {
        let sizes = self.m.ty(x).sizes();
        let i = self.m.index(&[3], sizes[0]);
        let updates = self.m.try_add(Op::Gather, &[x, i])?;
        let updates = if self.m.r.below(2) == 0 { self.m.tame(updates) } else { updates };
        let base = if self.m.r.below(3) == 0 { self.m.tame(x) } else { x };
        let sum = self.m.try_add(Op::ScatterAdd, &[base, i, updates])?;
        Some(if self.m.r.below(2) == 0 { self.m.tame(sum) } else { sum })
    }

    /// A loop over the state's rows, which also reads all of it each time; its stacked results are like the state.
    fn looped(&mut self, x: NodeId) -> Option<NodeId> {
        let ty = self.m.ty(x);
        let (trip, rest) = (ty.sizes()[0], Type::of(DType::F32, ty.sizes()[1..].iter().copied()));
        let mut f = Func::new("rows");
        let [round, own, all] = [(0, &rest), (1, &rest), (2, &ty)].map(|(i, ty)| f.add(Op::Input(i, ty.clone()), &[]));
        let sum = f.add(Op::Reduce(Red::Sum, Axes::from_slice(&[-(ty.rank() as i8)])), &[all]);
        let sum = f.add(Op::Reshape(rest.dims.clone()), &[sum]);
        let product = f.add(Op::Bin(Bin::Mul), &[round, own]);
        let next = f.add(Op::Bin(Bin::Add), &[product, sum]);
        let next = f.add(Op::Un(Un::Tanh), &[next]);
        f.results = vec![next, round, product, next];
        let first = self.m.f.add(Op::Slice(-(ty.rank() as i8), 0, 1), &[x]);
        let start = self.m.f.add(Op::Reshape(rest.dims.clone()), &[first]);
        let reverse = self.m.r.below(3) == 0;
        let bodies = self.m.bodies.as_mut()?;
        let l = Loop { func: bodies.len() as u32, trip: trip as u32, carried: 1, stacked: 1, reverse };
        bodies.push(f);
        let args = [start, x, x];
        let types: Vec<&Type> = args.iter().map(|a| self.m.f.ty(*a)).collect();
        let ty = Graph::repeat_type(self.m.bodies.as_ref()?, &l, &types).expect("the loop is well-typed");
        let all = self.m.f.add_typed(Op::Repeat(l), &args, ty);
        let last = self.m.f.add(Op::Get(0), &[all]);
        self.m.keep(Some(last));
        let which = 1 + self.m.r.below(3) as u32;
        Some(self.m.f.add(Op::Get(which), &[all]))
    }

    /// A loop whose iterations each update their own row of the state, and read what they made of it, and at times what it was, or all.
    fn kept(&mut self, x: NodeId) -> Option<NodeId> {
        let ty = self.m.ty(x);
        let (trip, rest) = (ty.sizes()[0], Type::of(DType::F32, ty.sizes()[1..].iter().copied()));
        let (before, after) = (self.m.r.below(4) == 0, self.m.r.below(4) == 0);
        let axis = -1 - self.m.r.below(rest.rank().max(1)) as i8;
        if rest.rank() == 0 {
            return None;
        }
        let start = self.m.index(&[], rest.dim(axis).size());
        let mut f = Func::new("kept");
        let scalar = Type::of(DType::I32, [0usize; 0]);
        let [round, own, at, all] = [(0, &rest), (1, &rest), (2, &scalar), (3, &ty)].map(|(i, ty)| f.add(Op::Input(i, ty.clone()), &[]));
        let values = f.add(Op::Slice(axis, 0, rest.dim(axis).size().min(1) as u32), &[round]);
        let new = f.add(Op::Update(axis), &[own, values, at]);
        let mut next = f.add(Op::Un(Un::Tanh), &[new]);
        next = f.add(Op::Bin(Bin::Add), &[next, round]);
        if before {
            next = f.add(Op::Bin(Bin::Sub), &[next, own]);
        }
        if after {
            let sum = f.add(Op::Reduce(Red::Sum, Axes::from_slice(&[-(ty.rank() as i8)])), &[all]);
            let sum = f.add(Op::Reshape(rest.dims.clone()), &[sum]);
            next = f.add(Op::Bin(Bin::Add), &[next, sum]);
        }
        let next = f.add(Op::Un(Un::Tanh), &[next]);
        f.results = vec![next, new, next];
        let first = self.m.f.add(Op::Slice(-(ty.rank() as i8), 0, 1), &[x]);
        let first = self.m.f.add(Op::Reshape(rest.dims.clone()), &[first]);
        let reverse = self.m.r.below(3) == 0;
        let bodies = self.m.bodies.as_mut()?;
        let l = Loop { func: bodies.len() as u32, trip: trip as u32, carried: 1, stacked: 1, reverse };
        bodies.push(f);
        let args = [first, x, start, x];
        let types: Vec<&Type> = args.iter().map(|a| self.m.f.ty(*a)).collect();
        let ty = Graph::repeat_type(self.m.bodies.as_ref()?, &l, &types).expect("the loop is well-typed");
        let all = self.m.f.add_typed(Op::Repeat(l), &args, ty);
        let made = self.m.f.add(Op::Get(2), &[all]);
        self.m.keep(Some(made));
        Some(self.m.f.add(Op::Get(1), &[all]))
    }

    /// Results in any order, some new values of state also under another name.
    fn finish(self) -> Graph {
        let mut results: Vec<(String, NodeId)> = self.new.iter().enumerate().map(|(i, v)| (format!("@s{i}"), *v)).collect();
        for (i, y) in self.m.pool.iter().rev().take(3).enumerate() {
            results.push((format!("y{i}"), *y));
        }
        for i in 0..self.new.len() {
            if self.m.r.below(4) == 0 {
                results.push((format!("z{i}"), self.new[i]));
            }
        }
        for i in (1..results.len()).rev() {
            let j = self.m.r.below(i + 1);
            results.swap(i, j);
        }
        let Maker { mut f, bodies, .. } = self.m;
        f.results = results.iter().map(|r| r.1).collect();
        let mut funcs = bodies.unwrap_or_default();
        funcs.push(f);
        Graph { funcs, inputs: vec!["x0".into(), "x1".into()], outputs: results.into_iter().map(|r| r.0).collect() }.sweep()
    }
}
