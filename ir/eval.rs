//! The reference meaning of every op: `f64`, plain loops, independent of everything it judges.

use crate::define::definition;
use crate::graph::{Func, Graph, NodeId};
use crate::infer::axis;
use crate::op::{Bin, Ein, Loop, Op, Red, Un};
use crate::types::{DType, Type};
use std::collections::HashMap;

/// A tensor of `f64`, or a tuple of values.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Sizes, outermost first.
    pub dims: Vec<usize>,
    /// Elements in row-major order. Truth is 1 and 0.
    pub data: Vec<f64>,
    /// Members, where this is a tuple.
    pub parts: Vec<Value>,
}

impl Value {
    /// A tensor.
    pub fn new(dims: Vec<usize>, data: Vec<f64>) -> Value {
        assert_eq!(dims.iter().product::<usize>(), data.len(), "dims and data disagree");
        Value { dims, data, parts: vec![] }
    }

    /// A scalar.
    pub fn scalar(x: f64) -> Value {
        Value::new(vec![], vec![x])
    }

    fn tuple(parts: Vec<Value>) -> Value {
        Value { dims: vec![], data: vec![], parts }
    }

    /// The element at an index of a larger, broadcast shape.
    fn at(&self, index: &[usize]) -> f64 {
        let skip = index.len() - self.dims.len();
        let mut i = 0;
        for (d, x) in self.dims.iter().zip(&index[skip..]) {
            i = i * d + if *d == 1 { 0 } else { *x };
        }
        self.data[i]
    }
}

/// What a graph needs from outside: main's inputs by name and parameters by path.
pub type Env = HashMap<String, Value>;

/// The results of main by name. Fails where something is missing or has another shape.
pub fn eval(graph: &Graph, env: &Env) -> Result<HashMap<String, Value>, String> {
    crate::limits::check_evaluated(graph)?;
    let inputs = graph.inputs.iter().map(|n| env.get(n).cloned().ok_or_else(|| format!("input {n} is missing"))).collect::<Result<Vec<_>, _>>()?;
    let results = eval_func(&graph.funcs, graph.main(), &inputs, env)?;
    Ok(graph.outputs.iter().cloned().zip(results).collect())
}

/// The results of a function for these operands. `funcs` are those it may call.
pub fn eval_func(funcs: &[Func], func: &Func, inputs: &[Value], env: &Env) -> Result<Vec<Value>, String> {
    let live = func.live();
    let mut values: Vec<Option<Value>> = vec![None; func.nodes.len()];
    for id in func.ids().filter(|id| live[id.index()]) {
        let node = func.node(id);
        let args: Vec<&Value> = node.args.iter().map(|a| values[a.index()].as_ref().expect("operands come first")).collect();
        let value = match &node.op {
            Op::Input(i, _) => inputs.get(*i as usize).cloned().ok_or_else(|| format!("input {i} is missing"))?,
            Op::Param(name, _) => env.get(name.as_ref()).cloned().ok_or_else(|| format!("parameter {name} is missing"))?,
            Op::Repeat(l) => repeat(funcs, l, &args, env)?,
            op => {
                let types: Vec<&Type> = node.args.iter().map(|a| func.ty(*a)).collect();
                eval_op(op, &types, &node.ty, &args)
            }
        };
        if node.ty.dtype != DType::Tuple && value.dims != node.ty.sizes() {
            return Err(format!("{} has sizes {:?}, expected {}", node.op, value.dims, node.ty));
        }
        values[id.index()] = Some(value);
    }
    Ok(func.results.iter().map(|r| take(&values, *r)).collect())
}

fn take(values: &[Option<Value>], id: NodeId) -> Value {
    values[id.index()].clone().expect("results are live")
}

fn repeat(funcs: &[Func], l: &Loop, args: &[&Value], env: &Env) -> Result<Value, String> {
    let body = &funcs[l.func as usize];
    let (carried, stacked, trip) = (l.carried as usize, l.stacked as usize, l.trip as usize);
    let mut round: Vec<Value> = args[..carried].iter().map(|v| (*v).clone()).collect();
    let extra = body.results.len() - carried;
    let mut stacks: Vec<Vec<Value>> = vec![vec![Value::scalar(0.0); trip]; extra];
    for step in 0..trip {
        let i = if l.reverse { trip - 1 - step } else { step };
        let own = args[carried..carried + stacked].iter().map(|v| slice_first(v, i));
        let inputs: Vec<Value> = round.iter().cloned().chain(own).chain(args[carried + stacked..].iter().map(|v| (*v).clone())).collect();
        let mut results = eval_func(funcs, body, &inputs, env)?;
        for (stack, value) in stacks.iter_mut().zip(results.split_off(carried)) {
            stack[i] = value;
        }
        round = results;
    }
    let together = |vs: Vec<Value>| {
        let dims = std::iter::once(trip).chain(vs[0].dims.iter().copied()).collect();
        Value::new(dims, vs.into_iter().flat_map(|v| v.data).collect())
    };
    Ok(Value::tuple(round.into_iter().chain(stacks.into_iter().map(together)).collect()))
}

fn slice_first(v: &Value, i: usize) -> Value {
    let n: usize = v.dims[1..].iter().product();
    Value::new(v.dims[1..].to_vec(), v.data[i * n..(i + 1) * n].to_vec())
}

/// Calls `f` with every index of a shape, in row-major order.
fn each(dims: &[usize], mut f: impl FnMut(&[usize])) {
    if dims.contains(&0) {
        return;
    }
    let mut index = vec![0; dims.len()];
    loop {
        f(&index);
        let mut axis = dims.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            if index[axis] < dims[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}

/// One op on values. Composites are their definitions.
pub fn eval_op(op: &Op, types: &[&Type], ty: &Type, a: &[&Value]) -> Value {
    let build = |f: &mut dyn FnMut(&[usize]) -> f64| {
        let dims = ty.sizes();
        let mut data = Vec::with_capacity(ty.count());
        each(&dims, |i| data.push(f(i)));
        Value::new(dims, data)
    };
    match op {
        Op::Const(bits, _) => Value::scalar(f64::from_bits(*bits)),
        Op::Size(d) => Value::scalar(d.size() as f64),
        Op::Iota(_, _) => build(&mut |i| i[0] as f64),
        Op::Un(un) => build(&mut |i| unary(*un, a[0].at(i))),
        Op::Bin(bin) => build(&mut |i| binary(*bin, types[0].dtype, a[0].at(i), a[1].at(i))),
        Op::Select => build(&mut |i| if a[0].at(i) != 0.0 { a[1].at(i) } else { a[2].at(i) }),
        Op::Cast(to) => build(&mut |i| cast(types[0].dtype, *to, a[0].at(i))),
        Op::StopGradient => a[0].clone(),
        Op::Reduce(red, axes) => reduce(*red, axes, types[0], ty, a[0]),
        Op::Contract(ein) => contract(ein, ty, a[0], a[1]),
        Op::Reshape(_) => Value::new(ty.sizes(), a[0].data.clone()),
        Op::Broadcast(_) => build(&mut |i| a[0].at(i)),
        Op::Transpose(order) => {
            let mut from = vec![0; order.len()];
            build(&mut |i| {
                for (x, o) in i.iter().zip(order) {
                    from[usize::from(*o)] = *x;
                }
                a[0].at(&from)
            })
        }
        Op::Slice(ax, lo, _) => shifted(ty, types[0], *ax, &build, a[0], i64::from(*lo)),
        Op::Pad(ax, before, _) => shifted(ty, types[0], *ax, &build, a[0], -i64::from(*before)),
        Op::Concat(ax) => concat(*ax, types, &build, a),
        Op::Gather => {
            let rank = a[1].dims.len();
            build(&mut |i| match row_of(a[1].at(&i[..rank]), a[0].dims[0]) {
                Some(row) => a[0].at(&[&[row], &i[rank..]].concat()),
                None => 0.0,
            })
        }
        Op::ScatterAdd => scatter_add(a),
        Op::Update(ax) => update(*ax, types[0], a),
        Op::RandomBits(_) => {
            let (key, mut counter) = (a[0].data[0] as u32, 0u32);
            build(&mut |_| {
                counter = counter.wrapping_add(1);
                f64::from(random_bits(key, counter.wrapping_sub(1)))
            })
        }
        Op::Tuple => Value::tuple(a.iter().map(|v| (*v).clone()).collect()),
        Op::Get(i) => a[0].parts[*i as usize].clone(),
        Op::Row(_) | Op::Attention(_) | Op::AttentionBwd(_) | Op::Grouped(_) | Op::GroupedSum(_) => composite(op, types, ty, a),
        Op::Param(..) | Op::Input(..) | Op::Repeat(_) => unreachable!("{op} is evaluated with its function"),
    }
}

fn composite(op: &Op, types: &[&Type], ty: &Type, a: &[&Value]) -> Value {
    let body = definition(op, types).expect("a composite has a definition");
    let inputs: Vec<Value> = a.iter().map(|v| (*v).clone()).collect();
    let mut results = eval_func(&[], &body, &inputs, &Env::new()).unwrap_or_else(|why| panic!("definition of {op}: {why}"));
    if ty.dtype == DType::Tuple { Value::tuple(results) } else { results.swap_remove(0) }
}

/// The 32 random bits of a counter under a key: two rounds of a bijective 32-bit mixer (Wellons' lowbias32) around the key.
pub fn random_bits(key: u32, counter: u32) -> u32 {
    mix(mix(counter ^ key).wrapping_add(key.wrapping_mul(0x9E37_79B9)))
}

fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7FEB_352D);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846C_A68B);
    x ^ (x >> 16)
}

/// An elementwise function of one number.
pub fn unary(un: Un, x: f64) -> f64 {
    match un {
        Un::Exp => x.exp(),
        Un::Log => x.ln(),
        Un::Neg => -x,
        Un::Sqrt => x.sqrt(),
        Un::Rsqrt => 1.0 / x.sqrt(),
        Un::Recip => 1.0 / x,
        Un::Tanh => x.tanh(),
        Un::Sin => x.sin(),
        Un::Cos => x.cos(),
        Un::Abs => x.abs(),
        Un::Erf => libm::erf(x),
    }
}

/// An elementwise function of two numbers of a type; truth is 1. Whole numbers are exact and wrap at 32 bits. The larger and the smaller of
/// two floats is NaN where either is, as PyTorch has it, and the second of two that are equal; comparisons with NaN are false.
pub fn binary(bin: Bin, dtype: DType, x: f64, y: f64) -> f64 {
    match dtype {
        DType::I32 | DType::U32 => whole(bin, dtype, x as i64, y as i64),
        DType::F32 | DType::BF16 | DType::F16 | DType::Bool | DType::Tuple => float(bin, x, y),
    }
}

fn float(bin: Bin, x: f64, y: f64) -> f64 {
    match bin {
        Bin::Add => x + y,
        Bin::Sub => x - y,
        Bin::Mul => x * y,
        Bin::Div => x / y,
        Bin::Maximum if x > y || x.is_nan() => x,
        Bin::Minimum if x < y || x.is_nan() => x,
        Bin::Maximum | Bin::Minimum => y,
        Bin::Pow => x.powf(y),
        Bin::Lt => truth(x < y),
        Bin::Le => truth(x <= y),
        Bin::Eq => truth(x == y),
        Bin::And | Bin::Shr => unreachable!("the type rule has bits of whole numbers alone"),
    }
}

/// In 64 bits, of which the product's low 32 are exact whatever the operands.
fn whole(bin: Bin, dtype: DType, x: i64, y: i64) -> f64 {
    match bin {
        Bin::Add => wrap(dtype, x + y),
        Bin::Sub => wrap(dtype, x - y),
        Bin::Mul => wrap(dtype, x.wrapping_mul(y)),
        Bin::Maximum => x.max(y) as f64,
        Bin::Minimum => x.min(y) as f64,
        Bin::Lt => truth(x < y),
        Bin::Le => truth(x <= y),
        Bin::Eq => truth(x == y),
        Bin::And => wrap(dtype, x & y),
        Bin::Shr => wrap(dtype, x >> (y & 31)),
        Bin::Div | Bin::Pow => unreachable!("the type rule has floats alone divided and raised"),
    }
}

fn truth(p: bool) -> f64 {
    f64::from(u8::from(p))
}

/// The low 32 bits, as a number of the type.
fn wrap(dtype: DType, x: i64) -> f64 {
    if dtype == DType::U32 { f64::from(x as u32) } else { f64::from(x as i32) }
}

/// Whole numbers keep their 32 bits between each other, and become the nearest float. A float loses its fraction; beyond the range of
/// whole numbers it is the nearest of them, and NaN is 0. What is not 0 is true, NaN too.
fn cast(from: DType, to: DType, x: f64) -> f64 {
    let is_whole = matches!(from, DType::I32 | DType::U32);
    match to {
        DType::I32 | DType::U32 if is_whole => wrap(to, x as i64),
        DType::I32 => f64::from(x as i32),
        DType::U32 => f64::from(x as u32),
        DType::Bool => truth(x != 0.0),
        DType::F32 if !is_whole => x,
        DType::F32 | DType::BF16 | DType::F16 | DType::Tuple => to.round(x),
    }
}

fn reduce(red: Red, axes: &[i8], from: &Type, ty: &Type, x: &Value) -> Value {
    let start = if red == Red::Sum { 0.0 } else { f64::NEG_INFINITY };
    let reduced: Vec<usize> = axes.iter().map(|a| axis(from, *a).expect("the type rule has checked the axes")).collect();
    let mut out = Value::new(ty.sizes(), vec![start; ty.count()]);
    each(&x.dims, |i| {
        let mut to = 0;
        for (ax, (d, x)) in out.dims.iter().zip(i).enumerate() {
            to = to * d + if reduced.contains(&ax) { 0 } else { *x };
        }
        let have = &mut out.data[to];
        *have = float(if red == Red::Sum { Bin::Add } else { Bin::Maximum }, x.at(i), *have);
    });
    out
}

fn contract(ein: &Ein, ty: &Type, a: &Value, b: &Value) -> Value {
    let labels = ein.a.iter().chain(&ein.b).max().map_or(0, |l| usize::from(*l) + 1);
    let mut size = vec![1; labels];
    for (l, d) in ein.a.iter().zip(&a.dims).chain(ein.b.iter().zip(&b.dims)) {
        size[usize::from(*l)] = *d;
    }
    let strides = |ls: &[u8]| {
        let mut s = vec![0; labels];
        let mut step = 1;
        for l in ls.iter().rev() {
            s[usize::from(*l)] += step;
            step *= size[usize::from(*l)];
        }
        s
    };
    let (sa, sb) = (strides(&ein.a), strides(&ein.b));
    let offset = |s: &[usize], i: &[usize]| s.iter().zip(i).map(|(s, i)| s * i).sum::<usize>();
    let (outer, inner) = size.split_at(usize::from(ein.out));
    let mut data = Vec::with_capacity(ty.count());
    each(outer, |o| {
        let (a0, b0) = (offset(&sa[..outer.len()], o), offset(&sb[..outer.len()], o));
        let mut sum = 0.0;
        each(inner, |k| sum += a.data[a0 + offset(&sa[outer.len()..], k)] * b.data[b0 + offset(&sb[outer.len()..], k)]);
        data.push(sum);
    });
    Value::new(ty.sizes(), data)
}

/// Element i of the result is element i + shift of x along an axis, or 0 outside.
fn shifted(ty: &Type, from: &Type, ax: i8, build: &dyn Fn(&mut dyn FnMut(&[usize]) -> f64) -> Value, x: &Value, shift: i64) -> Value {
    let ax = axis(from, ax).expect("the type rule has checked the axis");
    let mut j = vec![0; ty.rank()];
    build(&mut |i| {
        j.copy_from_slice(i);
        match usize::try_from(i[ax] as i64 + shift).ok().filter(|p| *p < x.dims[ax]) {
            Some(p) => {
                j[ax] = p;
                x.at(&j)
            }
            None => 0.0,
        }
    })
}

fn concat(ax: i8, types: &[&Type], build: &dyn Fn(&mut dyn FnMut(&[usize]) -> f64) -> Value, a: &[&Value]) -> Value {
    let ax = axis(types[0], ax).expect("the type rule has checked the axis");
    build(&mut |i| {
        let mut j = i.to_vec();
        for part in a {
            if j[ax] < part.dims[ax] {
                return part.at(&j);
            }
            j[ax] -= part.dims[ax];
        }
        unreachable!("the parts fill the whole")
    })
}

fn row_of(index: f64, rows: usize) -> Option<usize> {
    (index >= 0.0 && (index as usize) < rows).then_some(index as usize)
}

/// Each value at its start plus its place along the axis, if that is inside.
fn update(ax: i8, state: &Type, a: &[&Value]) -> Value {
    let [base, values, start] = a else { unreachable!("an update has three operands") };
    let ax = axis(state, ax).expect("the type rule has checked the axis");
    let mut out = (*base).clone();
    each(&values.dims, |i| {
        let mut to = i.to_vec();
        to[ax] = 0;
        if let Some(row) = row_of(start.at(&to) + i[ax] as f64, out.dims[ax]) {
            to[ax] = row;
            let at = to.iter().zip(&out.dims).fold(0, |at, (x, d)| at * d + x);
            out.data[at] = values.at(i);
        }
    });
    out
}

fn scatter_add(a: &[&Value]) -> Value {
    let mut out = a[0].clone();
    let n: usize = out.dims[1..].iter().product();
    for (k, index) in a[1].data.iter().enumerate() {
        if let Some(row) = row_of(*index, out.dims[0]) {
            for j in 0..n {
                out.data[row * n + j] += a[2].data[k * n + j];
            }
        }
    }
    out
}
