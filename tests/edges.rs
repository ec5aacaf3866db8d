//! Numbers at the edge, one op at a time: whole numbers that wrap, zeros of both signs, infinities, NaN, numbers below the smallest normal
//! one. What is wanted is Rust's arithmetic in 32 bits or a literal, never another part of the compiler.

use crate::running::interpreted;
use codegen::{Cpu, Gpu, Target};
use ir::{Env, Graph, Value, eval};

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

/// A program with one output, what it reads, and what that gives.
pub struct Case {
    text: String,
    env: Env,
    want: Vec<f64>,
    /// The relative error that is allowed.
    tolerance: f64,
}

impl Case {
    /// The program.
    pub fn text(&self) -> &str {
        &self.text
    }
}

const I32S: [i32; 10] = [i32::MIN, i32::MIN + 1, -65_537, -1, 0, 1, 2, 46_341, 65_537, i32::MAX];
const U32S: [u32; 8] = [0, 1, 2, 65_537, 0x7FFF_FFFF, 0x8000_0000, u32::MAX - 1, u32::MAX];
const F32S: [f32; 10] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1.0, -1.0, 3.0e38, 1e-38, 2.5];

/// Values as memory holds them.
fn held(dtype: &str, values: &[f64]) -> Vec<f64> {
    values.iter().map(|x| if dtype == "f32" { f64::from(*x as f32) } else { *x }).collect()
}

/// `y = steps` of inputs x0, x1, …: each a dtype, its dims and values. A step's text has `{n}` for the value before it and `{t}` for its type.
fn case(inputs: &[(&str, &[usize], Vec<f64>)], steps: &[(&str, &str, &[usize])], want: Vec<f64>) -> Case {
    let ty = |dtype: &str, dims: &[usize]| format!("{dtype}[{}]", dims.iter().map(usize::to_string).collect::<Vec<_>>().join(","));
    let params: Vec<String> = inputs.iter().enumerate().map(|(i, (t, d, _))| format!("%{i} x{i}: {}", ty(t, d))).collect();
    let mut text = format!("main({}) {{\n", params.join(", "));
    for (i, (op, dtype, dims)) in steps.iter().enumerate() {
        let at = inputs.len() + i;
        text += &format!("  %{at} = {} : {}\n", op.replace("{n}", &format!("%{}", at.max(1) - 1)), ty(dtype, dims));
    }
    text += &format!("  return y=%{}\n}}\n", inputs.len() + steps.len() - 1);
    let env = inputs.iter().enumerate().map(|(i, (t, d, v))| (format!("x{i}"), Value::new(d.to_vec(), held(t, v)))).collect();
    Case { text, env, want, tolerance: 0.0 }
}

fn pairs<T: Copy>(xs: &[T]) -> Vec<(T, T)> {
    xs.iter().flat_map(|a| xs.iter().map(|b| (*a, *b))).collect()
}

fn truth(p: bool) -> f64 {
    f64::from(u8::from(p))
}

/// An op of two numbers over all pairs.
fn two<T: Copy + Into<f64>>(op: &str, dtype: &str, out: &str, xs: &[T], f: impl Fn(T, T) -> f64) -> Case {
    let all = pairs(xs);
    let n = all.len();
    let of = |g: fn(&(T, T)) -> T| all.iter().map(|p| g(p).into()).collect();
    let inputs = [(dtype, &[n][..], of(|p| p.0)), (dtype, &[n][..], of(|p| p.1))];
    case(&inputs, &[(&format!("{op} %0, %1"), out, &[n])], all.iter().map(|(a, b)| f(*a, *b)).collect())
}

/// Conversions of a list, one after the other.
fn casts(from: &str, xs: Vec<f64>, to: &[&str], want: Vec<f64>) -> Case {
    let n = [xs.len()];
    let steps: Vec<String> = to.iter().map(|t| format!("cast[{t}] {{n}}")).collect();
    let steps: Vec<(&str, &str, &[usize])> = steps.iter().zip(to).map(|(s, t)| (&s[..], *t, &n[..])).collect();
    case(&[(from, &n, xs)], &steps, want)
}

fn whole_numbers() -> Vec<Case> {
    let mut out = vec![
        two("add", "i32", "i32", &I32S, |a, b| a.wrapping_add(b).into()),
        two("sub", "i32", "i32", &I32S, |a, b| a.wrapping_sub(b).into()),
        two("mul", "i32", "i32", &I32S, |a, b| a.wrapping_mul(b).into()),
        two("maximum", "i32", "i32", &I32S, |a, b| a.max(b).into()),
        two("minimum", "i32", "i32", &I32S, |a, b| a.min(b).into()),
        two("lt", "i32", "bool", &I32S, |a, b| truth(a < b)),
        two("le", "i32", "bool", &I32S, |a, b| truth(a <= b)),
        two("eq", "i32", "bool", &I32S, |a, b| truth(a == b)),
        two("add", "u32", "u32", &U32S, |a, b| a.wrapping_add(b).into()),
        two("sub", "u32", "u32", &U32S, |a, b| a.wrapping_sub(b).into()),
        two("mul", "u32", "u32", &U32S, |a, b| a.wrapping_mul(b).into()),
        two("maximum", "u32", "u32", &U32S, |a, b| a.max(b).into()),
        two("minimum", "u32", "u32", &U32S, |a, b| a.min(b).into()),
        two("lt", "u32", "bool", &U32S, |a, b| truth(a < b)),
        two("le", "u32", "bool", &U32S, |a, b| truth(a <= b)),
        two("eq", "u32", "bool", &U32S, |a, b| truth(a == b)),
    ];
    let i32s = |xs: &[i32]| xs.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
    let u32s = |xs: &[u32]| xs.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
    for (dtype, table) in [("i32", i32s(&[-5, i32::MIN])), ("u32", u32s(&[7, u32::MAX])), ("bool", vec![1.0, 1.0])] {
        let want = vec![table[1], table[0], 0.0, 0.0];
        let index = ("i32", &[4][..], vec![1.0, 0.0, 2.0, -1.0]);
        out.push(case(&[(dtype, &[2], table), index], &[("gather %0, %1", dtype, &[4])], want));
    }
    out
}

/// The nearest number with so many bits of fraction, none smaller than 2^lowest but by whole units of that: ties to even, ∞ beyond the largest.
fn nearest(x: f64, (fraction, lowest, largest): (i32, i32, f64)) -> f64 {
    if !x.is_finite() || x == 0.0 {
        return x;
    }
    let unit = 2f64.powi((x.abs().log2().floor() as i32).max(lowest) - fraction);
    let rounded = (x / unit).round_ties_even() * unit;
    if rounded.abs() > largest { INF.copysign(x) } else { rounded }
}

const BF16: (i32, i32, f64) = (7, -126, 3.389_531_389_251_535_5e38);
const F16: (i32, i32, f64) = (10, -14, 65504.0);

fn conversions() -> Vec<Case> {
    let floats: Vec<f32> = vec![
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        0.0,
        -0.0,
        0.9,
        -0.9,
        1.5,
        -1.5,
        2.5,
        -1.0,
        2_147_483_520.0,
        2_147_483_648.0,
        -2_147_483_648.0,
        -2_147_483_904.0,
        3e9,
        4_294_967_040.0,
        4_294_967_296.0,
        1e30,
        -1e30,
        1e-38,
    ];
    let wide = |xs: &[f32]| xs.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
    let (i32s, u32s): (Vec<f64>, Vec<f64>) = (I32S.map(f64::from).to_vec(), U32S.map(f64::from).to_vec());
    let odd: Vec<i32> = vec![16_777_217, 16_777_219, -16_777_217, 2_147_483_583, 2_147_483_584, 257, 259, i32::MIN];
    let odds: Vec<f64> = odd.iter().map(|x| f64::from(*x)).collect();
    let single = |x: &f64| f64::from(*x as f32);
    let mut out = vec![
        casts("f32", wide(&floats), &["i32"], floats.iter().map(|x| f64::from(*x as i32)).collect()),
        casts("f32", wide(&floats), &["u32"], floats.iter().map(|x| f64::from(*x as u32)).collect()),
        casts("f32", wide(&floats), &["bool"], floats.iter().map(|x| truth(*x != 0.0)).collect()),
        casts("f32", wide(&floats), &["bool", "f32"], floats.iter().map(|x| truth(*x != 0.0)).collect()),
        casts("i32", i32s.clone(), &["u32"], I32S.map(|x| f64::from(x as u32)).to_vec()),
        casts("u32", u32s.clone(), &["i32"], U32S.map(|x| f64::from(x as i32)).to_vec()),
        casts("i32", i32s.clone(), &["u32", "i32"], i32s.clone()),
        casts("i32", i32s.clone(), &["bool"], I32S.map(|x| truth(x != 0)).to_vec()),
        casts("u32", u32s.clone(), &["bool"], U32S.map(|x| truth(x != 0)).to_vec()),
        casts("i32", odds.clone(), &["f32"], odds.iter().map(single).collect()),
        casts("i32", odds.clone(), &["f32", "i32"], odd.iter().map(|x| f64::from(*x as f32 as i32)).collect()),
        casts("u32", u32s.clone(), &["f32"], u32s.iter().map(single).collect()),
        casts("bool", vec![0.0, 1.0], &["f32"], vec![0.0, 1.0]),
        casts("bool", vec![0.0, 1.0], &["i32"], vec![0.0, 1.0]),
        casts("bool", vec![0.0, 1.0], &["u32"], vec![0.0, 1.0]),
        casts("bool", vec![0.0, 1.0], &["f16", "f32"], vec![0.0, 1.0]),
    ];
    let halves: Vec<f32> = vec![
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        -0.0,
        1.00390625,
        1.01171875,
        1.0039063,
        1.0039062,
        1.000_488_3,
        1.001_464_8,
        -1.00390625,
        65_503.0,
        65_519.0,
        65_519.996,
        65_520.0,
        -65_520.0,
        3.38e38,
        3.394e38,
        3.3961776e38,
        -3.4e38,
        6.1e-5,
        6.0e-8,
        3.0e-8,
        2.980_232_2e-8,
        2.980_232_4e-8,
        2.9e-8,
        8.940_697e-8,
        -1.2e-7,
        1.175e-38,
    ];
    for (dtype, kind) in [("bf16", BF16), ("f16", F16)] {
        out.push(casts("f32", wide(&halves), &[dtype, "f32"], wide(&halves).iter().map(|x| nearest(*x, kind)).collect()));
        out.push(casts("i32", odds.clone(), &[dtype, "f32"], odds.iter().map(|x| nearest(single(x), kind)).collect()));
        out.push(casts("f32", wide(&halves), &[dtype, "i32"], wide(&halves).iter().map(|x| f64::from(nearest(*x, kind) as i32)).collect()));
        // through memory: a product with 1 and nothing else
        let finite: Vec<f64> = wide(&halves).into_iter().filter(|x| nearest(*x, kind).is_finite()).collect();
        let (n, want) = (finite.len(), finite.iter().map(|x| nearest(*x, kind)).collect());
        let steps: [(&str, &str, &[usize]); 3] = [
            (&format!("cast[{dtype}] %0"), dtype, &[n, 1]),
            (&format!("cast[{dtype}] %1"), dtype, &[1, 3]),
            ("contract[ak,kb->ab] %2, %3", "f32", &[n, 3]),
        ];
        let three = |xs: Vec<f64>| xs.into_iter().flat_map(|x| [x; 3]).collect();
        out.push(case(&[("f32", &[n, 1], finite), ("f32", &[1, 3], vec![1.0; 3])], &steps, three(want)));
    }
    out
}

fn floats() -> Vec<Case> {
    let nan_or = |a: f32, b: f32, x: f32| if a.is_nan() || b.is_nan() { NAN } else { f64::from(x) };
    let mut out = vec![
        two("maximum", "f32", "f32", &F32S, |a, b| nan_or(a, b, a.max(b))),
        two("minimum", "f32", "f32", &F32S, |a, b| nan_or(a, b, a.min(b))),
        two("lt", "f32", "bool", &F32S, |a, b| truth(a < b)),
        two("le", "f32", "bool", &F32S, |a, b| truth(a <= b)),
        two("eq", "f32", "bool", &F32S, |a, b| truth(a == b)),
        two("add", "f32", "f32", &F32S, |a, b| (a + b).into()),
        two("sub", "f32", "f32", &F32S, |a, b| (a - b).into()),
        two("mul", "f32", "f32", &F32S, |a, b| (a * b).into()),
    ];
    let all = F32S.map(f64::from).to_vec();
    let n = [all.len()];
    // what a comparison with NaN chooses, and what NaN is where it is not chosen
    let chosen = F32S.map(|x| if x < 1.0 { f64::from(x) } else { 7.0 }).to_vec();
    out.push(case(&[("f32", &n, all.clone())], &[("lt %0, 1.0", "bool", &n), ("select {n}, %0, 7.0", "f32", &n)], chosen));
    let relu = F32S.map(|x| if x > 0.0 || x.is_nan() { f64::from(x) } else { 0.0 }).to_vec();
    out.push(case(&[("f32", &n, all.clone())], &[("maximum %0, 0.0", "f32", &n)], relu.clone()));
    out.push(case(&[("f32", &n, all)], &[("maximum 0.0, %0", "f32", &n)], relu));
    out
}

/// Rows with NaN in turn at the first, a middle and the last place, one with none, and one of −∞ alone; then what is the largest.
fn rows_of(width: usize) -> (Vec<f64>, Vec<f64>) {
    let plain = |i: usize| ((i * 7) % 11) as f64 - 5.5;
    let largest = (0..width).map(plain).fold(-INF, f64::max);
    let with = |place: usize| (0..width).map(move |i| if i == place { NAN } else { plain(i) });
    let rows = with(0).chain(with(width / 2)).chain(with(width - 1)).chain((0..width).map(plain)).chain((0..width).map(|_| -INF));
    (rows.collect(), vec![NAN, NAN, NAN, largest, -INF])
}

fn largest_of_rows() -> Vec<Case> {
    let mut out = vec![];
    for width in [1, 3, 8, 36, 301] {
        let (x, want) = rows_of(width);
        let columns: Vec<f64> = (0..width * 5).map(|i| x[i % 5 * width + i / 5]).collect();
        out.push(case(&[("f32", &[5, width], x.clone())], &[("max[-1] %0", "f32", &[5, 1])], want.clone()));
        out.push(case(&[("f32", &[width, 5], columns)], &[("max[-2] %0", "f32", &[1, 5])], want.clone()));
        out.push(case(&[("f32", &[5, width], x.clone())], &[("max[-1,-2] %0", "f32", &[1, 1])], vec![NAN]));
        out.push(case(&[("f32", &[2, width], x[3 * width..].to_vec())], &[("max[-2,-1] %0", "f32", &[1, 1])], vec![want[3]]));
    }
    out.push(case(&[("f32", &[3, 0], vec![])], &[("max[-1] %0", "f32", &[3, 1])], vec![-INF; 3]));
    out.push(case(&[("f32", &[0, 2], vec![])], &[("max[-2] %0", "f32", &[1, 2])], vec![-INF; 2]));
    out.push(case(&[("f32", &[3, 0], vec![])], &[("sum[-1] %0", "f32", &[3, 1])], vec![0.0; 3]));
    // whole rows: what has no meaning is NaN, −∞ beside numbers is nothing
    let rows = vec![-INF, -INF, -INF, 1.0, -INF, 1.0, NAN, 1.0, 2.0, 3e38, -3e38, 0.0];
    let softmax = vec![NAN, NAN, NAN, 0.5, 0.0, 0.5, NAN, NAN, NAN, 1.0, 0.0, 0.0];
    out.push(case(&[("f32", &[4, 3], rows.clone())], &[("softmax %0", "f32", &[4, 3])], softmax));
    let log_sum = vec![-INF, 1.0 + 2f64.ln(), NAN, 3e38];
    out.push(Case { tolerance: 1e-6, ..case(&[("f32", &[4, 3], rows)], &[("logsumexp %0", "f32", &[4, 1])], log_sum) });
    out.push(case(&[("f32", &[1, 3], vec![INF, 1.0, -INF])], &[("logsumexp %0", "f32", &[1, 1])], vec![INF]));
    out
}

/// Functions of one number at literal points.
fn functions() -> Vec<Case> {
    let tables: [(&str, &[(f64, f64)]); 11] = [
        ("exp", &[(0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, 0.0), (NAN, NAN), (89.0, INF), (1e30, INF), (-1e30, 0.0), (1.0, 2.718281828)]),
        ("log", &[(0.0, -INF), (-0.0, -INF), (INF, INF), (-1.0, NAN), (-INF, NAN), (NAN, NAN), (1.0, 0.0), (1e30, 69.0775528)]),
        ("sqrt", &[(0.0, 0.0), (-0.0, 0.0), (INF, INF), (-1.0, NAN), (-INF, NAN), (NAN, NAN), (4.0, 2.0), (1e30, 1e15)]),
        ("rsqrt", &[(0.0, INF), (INF, 0.0), (-1.0, NAN), (NAN, NAN), (4.0, 0.5)]),
        ("recip", &[(0.0, INF), (-0.0, -INF), (INF, 0.0), (-INF, 0.0), (NAN, NAN), (-4.0, -0.25)]),
        ("tanh", &[(0.0, 0.0), (INF, 1.0), (-INF, -1.0), (NAN, NAN), (90.0, 1.0), (-1e30, -1.0), (1e-20, 1e-20)]),
        ("abs", &[(-0.0, 0.0), (-INF, INF), (NAN, NAN), (-2.5, 2.5)]),
        ("neg", &[(0.0, 0.0), (INF, -INF), (NAN, NAN), (-2.5, 2.5)]),
        ("sigmoid", &[(0.0, 0.5), (INF, 1.0), (-INF, 0.0), (NAN, NAN), (90.0, 1.0), (1e30, 1.0), (-1e30, 0.0), (-40.0, 4.248354e-18)]),
        ("silu", &[(0.0, 0.0), (INF, INF), (-INF, NAN), (NAN, NAN), (90.0, 90.0), (-1e30, 0.0), (1e30, 1e30), (-40.0, -1.6993417e-16)]),
        ("gelu", &[(0.0, 0.0), (INF, INF), (-INF, NAN), (NAN, NAN), (90.0, 90.0), (-90.0, 0.0), (1e30, 1e30), (-1e30, 0.0)]),
    ];
    let of = |(op, points): &(&str, &[(f64, f64)])| {
        let (x, y): (Vec<f64>, Vec<f64>) = points.iter().copied().unzip();
        let n = [x.len()];
        Case { tolerance: 2e-6, ..case(&[("f32", &n, x)], &[(&format!("{op} %0"), "f32", &n)], y) }
    };
    let mut out: Vec<Case> = tables.iter().map(of).collect();
    let powers = [
        (0.0, 0.0, 1.0),
        (NAN, 0.0, 1.0),
        (1.0, NAN, 1.0),
        (1.0, INF, 1.0),
        (0.0, 2.0, 0.0),
        (0.0, -1.0, INF),
        (-2.0, 3.0, -8.0),
        (-2.0, 2.0, 4.0),
        (-2.0, 0.5, NAN),
        (-2.0, -1.0, -0.5),
        (INF, -1.0, 0.0),
        (INF, 0.5, INF),
        (4.0, 0.5, 2.0),
        (2.0, 0.0, 1.0),
        (NAN, 2.0, NAN),
        (2.0, NAN, NAN),
    ];
    let column = |f: fn(&(f64, f64, f64)) -> f64| powers.iter().map(f).collect::<Vec<_>>();
    let n = [powers.len()];
    let power = case(&[("f32", &n, column(|p| p.0)), ("f32", &n, column(|p| p.1))], &[("pow %0, %1", "f32", &n)], column(|p| p.2));
    out.push(Case { tolerance: 2e-6, ..power });
    out
}

/// What every target gives.
pub fn everywhere() -> Vec<Case> {
    [whole_numbers(), conversions(), floats(), largest_of_rows(), functions()].into_iter().flatten().collect()
}

/// Numbers below the smallest normal one, which a processor keeps and a graphics processor may take for 0.
fn subnormal() -> Vec<Case> {
    let (tiny, small) = (1e-40f32, 1e-30f32);
    let n = [4];
    let xs = [tiny, -tiny, 3.0 * tiny, f32::from_bits(1)];
    let wide = |xs: &[f32]| xs.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
    let input = || ("f32", &n[..], wide(&xs));
    let each = |f: fn(f32) -> f32| wide(&xs.map(f));
    let mut out = vec![
        case(&[input()], &[("add %0, %0", "f32", &n)], each(|x| x + x)),
        case(&[input()], &[("mul %0, 0.5", "f32", &n)], each(|x| x * 0.5)),
        case(&[input()], &[("div %0, 3.0", "f32", &n)], each(|x| x / 3.0)),
        case(&[input()], &[("maximum %0, 0.0", "f32", &n)], each(|x| if x > 0.0 { x } else { 0.0 })),
        case(&[input()], &[("lt 0.0, %0", "bool", &n)], vec![1.0, 0.0, 1.0, 1.0]),
        case(&[input()], &[("cast[bool] %0", "bool", &n)], vec![1.0; 4]),
        case(&[input()], &[("sqrt %0", "f32", &n)], each(f32::sqrt)),
        case(
            &[("f32", &[3], vec![small.into(), (-small).into(), 1e-20])],
            &[("mul %0, 1e-10", "f32", &[3])],
            wide(&[small * 1e-10, -small * 1e-10, 1e-20 * 1e-10]),
        ),
        case(&[("f32", &[1, 4], wide(&xs))], &[("sum[-1] %0", "f32", &[1, 1])], vec![xs.iter().sum::<f32>().into()]),
        casts("f32", wide(&xs), &["bf16", "f32"], wide(&xs).iter().map(|x| nearest(*x, BF16)).collect()),
        casts("f32", wide(&[1.2e-7, 5e-8, -5e-8, 1e-5]), &["f16", "f32"], [1.2e-7f32, 5e-8, -5e-8, 1e-5].map(|x| nearest(x.into(), F16)).to_vec()),
    ];
    let exp = case(&[("f32", &[3], vec![-88.0, -95.0, -103.0])], &[("exp %0", "f32", &[3])], [-88f64, -95.0, -103.0].map(f64::exp).to_vec());
    out.push(exp);
    out
}

/// Whether a number is as wanted: the last bit of the smallest numbers may differ where an error is allowed at all.
fn as_wanted(have: f64, want: f64, tolerance: f64) -> bool {
    let (have, want) = (f64::from(have as f32), f64::from(want as f32));
    have == want
        || (have.is_nan() && want.is_nan())
        || (have - want).abs() <= tolerance * want.abs() + 3e-45
        || have.abs() < 1e-37 && want.abs() < 1e-37 && tolerance > 0.0
}

/// Runs a case somewhere.
pub fn check(case: &Case, how: &str, run: &dyn Fn(&Graph, &Env) -> Value) {
    let graph: Graph = case.text.parse().unwrap_or_else(|e| panic!("{e}\n{}", case.text));
    let have = run(&graph, &case.env);
    assert_eq!(have.data.len(), case.want.len(), "{how}\n{}", case.text);
    for (i, (h, w)) in have.data.iter().zip(&case.want).enumerate() {
        let read: Vec<f64> = (0..case.env.len()).filter_map(|k| case.env[&format!("x{k}")].data.get(i).copied()).collect();
        assert!(as_wanted(*h, *w, case.tolerance), "{how}: element {i} of {read:?} is {h}, not {w}\n{}", case.text);
    }
}

#[test]
fn evaluation_at_the_edge() {
    for c in everywhere().iter().chain(&subnormal()) {
        check(c, "evaluated", &|g, env| eval(g, env).unwrap().remove("y").unwrap());
    }
}

#[test]
fn kernels_interpreted_at_the_edge() {
    let targets = [
        Target::Cpu(Cpu { lanes: 8, registers: 16, cache: 1 << 14, pairs: false }),
        Target::Gpu(Gpu { processors: 100, shared: 16 << 10, tensor: false, hopper: false }),
    ];
    for target in targets {
        for c in everywhere().iter().chain(&subnormal()) {
            check(c, &format!("interpreted for {target:?}"), &|g, env| interpreted(g, env, &target, &mut |_| {}).remove(0));
        }
    }
}

#[cfg(feature = "llvm")]
#[test]
fn compiled_at_the_edge() {
    for c in everywhere().iter().chain(&subnormal()) {
        check(c, "compiled", &|g, env| crate::compiled::run(g, env, 1).remove("y").unwrap());
    }
}

/// NaN of any bits is NaN in 16 bits as well: rounding up carries into the sign of one whose bits are all set.
#[cfg(feature = "llvm")]
#[test]
fn nan_of_any_bits_stays_nan_in_16() {
    let nans: Vec<f32> = [0x7FC0_0000, 0x7F80_0001, 0x7FFF_FFFF, 0xFFFF_FFFF, 0xFF80_0001, 0x7FFF_8000].map(f32::from_bits).repeat(7);
    for (ty, infinity) in [("bf16", 0x7F80), ("f16", 0x7C00)] {
        let n = nans.len();
        let text = format!("main(%0 x: f32[{n}]) {{\n  %1 = cast[{ty}] %0 : {ty}[{n}]\n  return y=%1\n}}\n");
        let graph: Graph = text.parse().unwrap();
        let mut session = runtime::Session::new(&graph, std::sync::Arc::new(runtime::Pool::new(1))).unwrap();
        session.set_f32("x", &nans).unwrap();
        session.run().unwrap();
        let bytes = &session.output("y").unwrap().bytes()[..2 * n];
        for (x, h) in nans.iter().zip(bytes.chunks_exact(2).map(|h| u16::from_le_bytes([h[0], h[1]]))) {
            assert!(h & 0x7FFF > infinity, "{ty} of {:#x} is {h:#x}", x.to_bits());
        }
    }
}
