//! Evaluation in `f32`: every op's result is rounded, and what no standard rounds correctly is off by an ulp here or there.
//!
//! It says whether two programs have the same bits on *any* machine that follows IEEE 754: sums and products are added one at a time in
//! the order of their elements, and `exp`, `log`, `tanh`, `sin`, `cos`, `erf`, `pow`, `rsqrt` and `recip` are correctly rounded but for the last
//! bit, which is as a hash of the operands has it. Two programs that differ in how they use those differ in bits.

use crate::common::Random;
use ir::{DType, Env, Func, Op, Red, Type, Un, Value, definition, eval_func, eval_op};

fn round(dtype: DType, v: Value) -> Value {
    let parts = v.parts.into_iter().map(|p| round(DType::F32, p)).collect();
    Value { data: v.data.into_iter().map(|x| dtype.round(x)).collect(), parts, ..v }
}

/// The neighbour above, where a hash of the operands says so.
fn nudge(x: f64, operands: &[f64], salt: u32) -> f64 {
    let hash = operands.iter().fold(salt, |h, o| ir::random_bits(h, (*o as f32).abs().to_bits()));
    let near = x as f32;
    if near.is_normal() && hash % 2 == 0 { f64::from(f32::from_bits(near.to_bits() + 1)) } else { f64::from(near) }
}

/// The results of a function that calls no other and has no parameters.
pub fn eval_f32(func: &Func, inputs: &[Value]) -> Vec<Value> {
    let mut values: Vec<Value> = vec![];
    for node in &func.nodes {
        let args: Vec<&Value> = node.args.iter().map(|a| &values[a.index()]).collect();
        let types: Vec<&Type> = node.args.iter().map(|a| func.ty(*a)).collect();
        let value = match &node.op {
            Op::Input(i, _) => inputs[*i as usize].clone(),
            op => eval_one(op, &types, &node.ty, &args),
        };
        values.push(value);
    }
    func.results.iter().map(|r| values[r.index()].clone()).collect()
}

fn eval_one(op: &Op, types: &[&Type], ty: &Type, args: &[&Value]) -> Value {
    let value = match op {
        Op::Row(_) | Op::Attention(_) | Op::AttentionBwd(_) => {
            let inputs: Vec<Value> = args.iter().map(|v| (*v).clone()).collect();
            let mut results = eval_f32(&definition(op, types).expect("a composite has a definition"), &inputs);
            return if ty.dtype == DType::Tuple { Value { dims: vec![], data: vec![], parts: results } } else { results.swap_remove(0) };
        }
        Op::Reduce(Red::Sum, axes) => return sum(axes, ty, args[0]),
        Op::Contract(ein) => return contract(ein, ty, args),
        op => eval_op(op, types, ty, args),
    };
    let value = round(ty.dtype, value);
    let salt = match op {
        Op::Un(un @ (Un::Exp | Un::Log | Un::Tanh | Un::Sin | Un::Cos | Un::Erf | Un::Rsqrt | Un::Recip)) => *un as u32 + 1,
        Op::Bin(ir::Bin::Pow) => 100,
        _ => return value,
    };
    let operands: Vec<Value> = args.iter().map(|a| eval_op(&Op::Broadcast(ty.dims.clone()), &[ty], ty, &[*a])).collect();
    let off = |(i, x): (usize, &f64)| nudge(*x, &operands.iter().map(|o| o.data[i]).collect::<Vec<_>>(), salt);
    Value { data: value.data.iter().enumerate().map(off).collect(), ..value }
}

fn sum(axes: &[i8], ty: &Type, x: &Value) -> Value {
    let rank = x.dims.len() as i64;
    let mut out = vec![0f32; ty.count()];
    for (at, v) in x.data.iter().enumerate() {
        let (mut rest, mut to, mut step) = (at, 0, 1);
        for axis in (0..x.dims.len()).rev() {
            let i = rest % x.dims[axis];
            rest /= x.dims[axis];
            if !axes.iter().any(|a| i64::from(*a) + rank == axis as i64) {
                to += i * step;
                step *= x.dims[axis];
            }
        }
        out[to] += *v as f32;
    }
    Value::new(ty.sizes(), out.into_iter().map(f64::from).collect())
}

fn contract(ein: &ir::Ein, ty: &Type, args: &[&Value]) -> Value {
    let labels = ein.a.iter().chain(&ein.b).max().map_or(0, |l| usize::from(*l) + 1);
    let mut size = vec![1usize; labels];
    for (l, d) in ein.a.iter().zip(&args[0].dims).chain(ein.b.iter().zip(&args[1].dims)) {
        size[usize::from(*l)] = *d;
    }
    let mut out = vec![0f32; ty.count()];
    let offset = |ls: &[u8], index: &[usize]| ls.iter().fold(0, |o, l| o * size[usize::from(*l)] + index[usize::from(*l)]);
    // labels of the result come first, so that the last part of a flat index is what is summed
    let inner: usize = size[usize::from(ein.out)..].iter().product();
    for at in 0..size.iter().product() {
        let mut index = vec![0; labels];
        let mut rest = at;
        for l in (0..labels).rev() {
            index[l] = rest % size[l];
            rest /= size[l];
        }
        out[at / inner] += args[0].data[offset(&ein.a, &index)] as f32 * args[1].data[offset(&ein.b, &index)] as f32;
    }
    Value::new(ty.sizes(), out.into_iter().map(f64::from).collect())
}

/// Numbers at every edge of `f32`, and ordinary ones with all their bits.
pub fn special(r: &mut Random, ty: &Type) -> Value {
    let edges = [0.0, -0.0, 1e-45, -1e-45, 3e-39, 1.1754944e-38, 1e-30, 1.0, -1.0, 1e30, 3.4028235e38, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    let mut one = || match ty.dtype {
        DType::F32 if r.below(2) == 0 => f64::from(edges[r.below(edges.len())]),
        DType::F32 => r.unit() * [1.0, 1e-38, 1e38][r.below(3)],
        DType::BF16 | DType::F16 | DType::I32 | DType::U32 | DType::Bool | DType::Tuple => r.below(3) as f64,
    };
    let flat = (0..ty.count()).map(|_| ty.dtype.round(one())).collect();
    Value::new(ty.sizes(), flat)
}

/// The first element in which two values differ as bits, NaN being NaN.
pub fn differ(a: &Value, b: &Value) -> Option<(f64, f64)> {
    assert_eq!((&a.dims, a.parts.len()), (&b.dims, b.parts.len()));
    let same = |(x, y): &(&f64, &f64)| (x.is_nan() && y.is_nan()) || (**x as f32).to_bits() == (**y as f32).to_bits();
    let here = a.data.iter().zip(&b.data).find(|p| !same(p)).map(|(x, y)| (*x, *y));
    here.or_else(|| a.parts.iter().zip(&b.parts).find_map(|(x, y)| differ(x, y)))
}

/// The evaluator itself, against Rust's own `f32` on plain sums and products, and against `f64` where nothing is rounded.
#[test]
fn evaluation_in_f32_is_rusts() {
    let mut r = Random(3);
    let mut func = Func::new("main");
    let x = func.add(Op::Input(0, Type::f32([3usize, 5])), &[]);
    let y = func.add(Op::Input(1, Type::f32([5usize, 2])), &[]);
    let product = func.add(Op::Contract("ab,bc->ac".parse().unwrap()), &[x, y]);
    let total = func.add(Op::Reduce(Red::Sum, [-2i8].into_iter().collect()), &[x]);
    func.results = vec![product, total];
    let (a, b) = (r.value(&Type::f32([3usize, 5]), 3), r.value(&Type::f32([5usize, 2]), 3));
    let have = eval_f32(&func, &[a.clone(), b.clone()]);
    for (i, j) in (0..3).flat_map(|i| (0..2).map(move |j| (i, j))) {
        let want = (0..5).fold(0f32, |s, k| s + a.data[i * 5 + k] as f32 * b.data[k * 2 + j] as f32);
        assert_eq!(have[0].data[i * 2 + j], f64::from(want));
    }
    for k in 0..5 {
        let want = (0..3).fold(0f32, |s, i| s + a.data[i * 5 + k] as f32);
        assert_eq!(have[1].data[k], f64::from(want));
    }
    let whole: Vec<Value> = [&a, &b].map(|v| Value::new(v.dims.clone(), v.data.iter().map(|x| (x * 8.0).round()).collect())).to_vec();
    assert_eq!(eval_f32(&func, &whole), eval_func(&[], &func, &whole, &Env::new()).unwrap());
}
