//! The type rule of every op, written once: the builder, the verifier and the e-graph's analysis call it.

use crate::op::{Attn, Bin, Ein, Lie, Op, Row};
use crate::types::{DType, Dim, Dims, Type, list};

/// The type of `op(args)`, or why it has none. A `repeat`'s type needs its body: see [`crate::Graph`].
pub fn infer(op: &Op, args: &[&Type]) -> Result<Type, String> {
    check_count(op, args.len())?;
    let typed = tensors(op, args).and_then(|()| rule(op, args));
    typed.and_then(|ty| ty.checked_count().map(|_| ty)).map_err(|why| format!("{}: {why}", call(op, args)))
}

/// Whether so many operands are the op's; attention has as many more as its function captures.
fn check_count(op: &Op, n: usize) -> Result<(), String> {
    let captured = if let Op::Attention(a) | Op::AttentionBwd(a) = op { a.f.captured() } else { 0 };
    let want = op.fixed_operands() + captured;
    if op.variadic() || n == want {
        return Ok(());
    }
    Err(format!("{op} takes {want} operands ({}), not {n}", op.spec().operands.join(", ")))
}

/// All but `get` and a loop take tensors, and what a tuple holds are tensors.
fn tensors(op: &Op, args: &[&Type]) -> Result<(), String> {
    match op {
        Op::Get(_) | Op::Repeat(_) => Ok(()),
        _ if args.iter().any(|t| !t.is_tensor()) => Err("a tuple is not a tensor; take a member with get".into()),
        _ => Ok(()),
    }
}

/// `add(a: f32[2,3], b: f32[4])`, as errors name a call.
pub fn call(op: &Op, args: &[&Type]) -> String {
    let names = op.spec().operands;
    let operand = |(i, t): (usize, &&Type)| format!("{}: {t}", names.get(i).copied().unwrap_or(names.last().copied().unwrap_or("x")));
    format!("{op}({})", args.iter().enumerate().map(operand).collect::<Vec<_>>().join(", "))
}

fn rule(op: &Op, t: &[&Type]) -> Result<Type, String> {
    let same = |dims: Dims| Ok(Type { dtype: t[0].dtype, dims, parts: vec![] });
    match op {
        Op::Param(_, ty) | Op::Input(_, ty) if !ty.is_tensor() => Err(format!("{ty} is not the type of a tensor")),
        Op::Param(_, ty) | Op::Input(_, ty) => Ok(ty.clone()),
        Op::Const(_, dtype) if dtype.is_half() => Err(format!("a number is f32; cast it to {dtype}")),
        Op::Const(bits, dtype) if holds(*dtype, *bits) => Ok(Type::scalar(*dtype)),
        Op::Const(_, dtype) => Err(format!("this is no number of type {dtype}")),
        Op::Iota(axis, dim) => {
            if *axis >= 0 {
                return Err(format!("axes count from the end: -1 is the last, and {axis} is none"));
            }
            countable(*dim)?;
            let ones = std::iter::repeat_n(Dim::ONE, usize::from(axis.unsigned_abs()) - 1);
            Ok(Type { dtype: DType::I32, dims: std::iter::once(*dim).chain(ones).collect(), parts: vec![] })
        }
        Op::Size(dim) => Type::f32([*dim]).checked_count().map(|_| Type::scalar(DType::F32)),
        Op::Un(_) => float(t, t[0].dims.clone()),
        Op::StopGradient => same(t[0].dims.clone()),
        Op::Bin(bin) => binary(*bin, t),
        Op::Select => {
            expect(t[0], DType::Bool, "the condition")?;
            same_dtype(t[1], t[2])?;
            Ok(Type { dtype: t[1].dtype, dims: broadcast(t)?, parts: vec![] })
        }
        Op::Cast(DType::Tuple) => Err("a tuple has no element type".into()),
        Op::Cast(dtype) => Ok(Type { dtype: *dtype, dims: t[0].dims.clone(), parts: vec![] }),
        Op::Reduce(_, axes) => reduce(axes, t),
        Op::Contract(ein) => product(t, contract(ein, t)?),
        Op::Reshape(dims) => {
            let (from, to) = (t[0].checked_count()?, Type::of(t[0].dtype, dims.iter().copied()).checked_count()?);
            if from != to {
                return Err(format!("{from} elements cannot become [{}], which has {to}", list(dims)));
            }
            same(dims.clone())
        }
        Op::Transpose(order) => {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            if !sorted.iter().map(|i| usize::from(*i)).eq(0..t[0].rank()) {
                return Err(format!("[{}] is not an order of {} axes", list(order), t[0].rank()));
            }
            same(order.iter().map(|i| t[0].dims[usize::from(*i)]).collect())
        }
        Op::Broadcast(dims) => {
            let to = Type { dtype: t[0].dtype, dims: dims.clone(), parts: vec![] };
            let fits = |(have, want): (&Dim, &Dim)| *have == Dim::ONE || have == want;
            if t[0].rank() > dims.len() || !t[0].dims.iter().rev().zip(dims.iter().rev()).all(fits) {
                return Err(format!("cannot be repeated to [{}]", list(dims)));
            }
            Ok(to)
        }
        Op::Slice(a, lo, hi) => {
            let i = axis(t[0], *a)?;
            let whole = numeric(t[0].dims[i])?;
            if lo > hi || u64::from(*hi) > whole {
                return Err(format!("{lo}..{hi} is outside 0..{whole}"));
            }
            resized(t[0], i, u64::from(hi - lo))
        }
        Op::Pad(a, before, after) => {
            let i = axis(t[0], *a)?;
            resized(t[0], i, numeric(t[0].dims[i])? + u64::from(*before) + u64::from(*after))
        }
        Op::Concat(a) => concat(*a, t),
        Op::Gather => {
            expect(t[1], DType::I32, "the index")?;
            let row = t[0].dims.get(1..).ok_or("the table has no axis to index")?;
            same(t[1].dims.iter().chain(row).copied().collect())
        }
        Op::ScatterAdd => scatter_add(t),
        Op::Update(a) => update(*a, t),
        Op::RandomBits(dims) => {
            expect(t[0], DType::U32, "the key")?;
            if !t[0].is_scalar() {
                return Err("the key must be a scalar".into());
            }
            Ok(Type { dtype: DType::U32, dims: dims.clone(), parts: vec![] })
        }
        Op::Repeat(_) => Err("the type of a repeat depends on its body".into()),
        Op::Tuple if t.is_empty() => Err("there is nothing to put together".into()),
        Op::Tuple => Ok(Type::tuple(t.iter().map(|t| (*t).clone()).collect())),
        Op::Get(i) => t[0].parts.get(*i as usize).cloned().ok_or_else(|| format!("there is no member {i}")),
        Op::Row(row) => row_rule(*row, t),
        Op::Attention(a) if a.f.dscore.is_some() || !a.f.dcaptured.is_empty() => Err("a derivative stands in attention itself".into()),
        Op::Attention(a) => attention(a, t[0], t[1], t[2], t[3], &t[4..]),
        Op::AttentionBwd(a) => attention_bwd(a, t),
        Op::Grouped(lie) => grouped(*lie, t),
        Op::GroupedSum(groups) => {
            let (n, c) = rows_of_groups(t)?;
            let [rows, f] = t[1].dims[..] else { return Err(format!("b must have rows and columns, not be {}", t[1])) };
            if rows != n {
                return Err(format!("b must have {n} rows"));
            }
            countable(*groups)?;
            product(&t[..2], Dims::from_slice(&[*groups, c, f]))
        }
    }
}

/// Rows and columns of a, whose rows have a group each.
fn rows_of_groups(t: &[&Type]) -> Result<(Dim, Dim), String> {
    expect(t[2], DType::I32, "the group")?;
    let [n, c] = t[0].dims[..] else { return Err(format!("a must have rows and columns, not be {}", t[0])) };
    if t[2].dims[..] != [n] {
        return Err(format!("the group must be i32[{n}]"));
    }
    Ok((n, c))
}

fn grouped(lie: Lie, t: &[&Type]) -> Result<Type, String> {
    let (n, c) = rows_of_groups(t)?;
    let [e, x, y] = t[1].dims[..] else { return Err(format!("w must be a matrix for each group, not {}", t[1])) };
    let (inner, f) = if lie == Lie::Plain { (x, y) } else { (y, x) };
    countable(e)?;
    if inner != c {
        return Err(format!("rows of {c} do not meet matrices of {inner}"));
    }
    product(&t[..2], Dims::from_slice(&[n, f]))
}

fn attention_bwd(a: &Attn, t: &[&Type]) -> Result<Type, String> {
    let captured = &t[7..];
    let forward = attention(a, t[0], t[1], t[2], t[6], captured)?;
    if *t[3] != forward.parts[0] || *t[4] != forward.parts[1] || *t[5] != forward.parts[0] {
        return Err(format!("o, lse and do must be as attention gives them: {forward}"));
    }
    let scores = score_dims(a, t[0], t[1], t[2])?;
    let gradients = t[..3].iter().map(|x| Type { dtype: DType::F32, ..(*x).clone() });
    let of_captured = a.f.dcaptured.iter().map(|(i, _)| Type::f32(captured_gradient(captured[usize::from(*i)], &scores)));
    Ok(Type::tuple(gradients.chain(of_captured).collect()))
}

/// The dims of the gradient of an operand that attention captures: the scores', with 1 along queries and keys where the operand has.
pub fn captured_gradient(x: &Type, scores: &[Dim]) -> Dims {
    let behind = |i: usize| i as i8 - scores.len() as i8;
    let one = |i: usize| i + 2 >= scores.len() && x.dim(behind(i)) == Dim::ONE;
    scores.iter().enumerate().map(|(i, d)| if one(i) { Dim::ONE } else { *d }).collect()
}

/// Axes that are reduced keep their place, with size 1.
fn reduce(axes: &[i8], t: &[&Type]) -> Result<Type, String> {
    if axes.is_empty() {
        return Err("there is no axis to reduce".into());
    }
    if let Some(a) = axes.iter().enumerate().find_map(|(i, a)| axes[..i].contains(a).then_some(a)) {
        return Err(format!("axis {a} is reduced twice"));
    }
    let mut dims = t[0].dims.clone();
    for a in axes {
        dims[axis(t[0], *a)?] = Dim::ONE;
    }
    float(t, dims)
}

/// Values are like the state but for how many there are along the axis; starts broadcast over all of it but the axis.
fn update(a: i8, t: &[&Type]) -> Result<Type, String> {
    let (state, values, start) = (t[0], t[1], t[2]);
    let i = axis(state, a)?;
    same_dtype(state, values)?;
    let with = |n: Dim| -> Dims { state.dims.iter().enumerate().map(|(j, d)| if j == i { n } else { *d }).collect() };
    let written = values.dims.get(i).copied().unwrap_or(Dim::ONE);
    if values.dims != with(written) {
        return Err(format!("the values must be {}, with any number along axis {a}", Type::of(state.dtype, with(written))));
    }
    expect(start, DType::I32, "the start")?;
    let one = with(Dim::ONE);
    let fits = |(have, want): (&Dim, &Dim)| *have == Dim::ONE || have == want;
    if start.rank() > one.len() || !start.dims.iter().rev().zip(one.iter().rev()).all(fits) {
        return Err(format!("the start must broadcast to i32[{}]", list(&one)));
    }
    Ok(state.clone())
}

fn scatter_add(t: &[&Type]) -> Result<Type, String> {
    expect(t[1], DType::I32, "the index")?;
    float(&[t[0], t[2]], Dims::new())?;
    let row = t[0].dims.get(1..).ok_or("the base has no axis to index")?;
    let want: Dims = t[1].dims.iter().chain(row).copied().collect();
    if want != t[2].dims {
        return Err(format!("the updates must be [{}]", list(&want)));
    }
    Ok(t[0].clone())
}

fn binary(bin: Bin, t: &[&Type]) -> Result<Type, String> {
    same_dtype(t[0], t[1])?;
    let dims = broadcast(t)?;
    match bin {
        _ if t[0].dtype.is_half() => Err(format!("{} has no arithmetic; cast to f32", t[0].dtype)),
        Bin::Lt | Bin::Le | Bin::Eq => Ok(Type { dtype: DType::Bool, dims, parts: vec![] }),
        Bin::Pow | Bin::Div => float(t, dims),
        Bin::And | Bin::Shr if matches!(t[0].dtype, DType::I32 | DType::U32) => Ok(Type { dtype: t[0].dtype, dims, parts: vec![] }),
        Bin::And | Bin::Shr => Err(format!("{} is of the bits of whole numbers, not of {}", bin.name(), t[0].dtype)),
        Bin::Add | Bin::Sub | Bin::Mul | Bin::Maximum | Bin::Minimum if t[0].dtype == DType::Bool => Err("truth values have no arithmetic".into()),
        Bin::Add | Bin::Sub | Bin::Mul | Bin::Maximum | Bin::Minimum => Ok(Type { dtype: t[0].dtype, dims, parts: vec![] }),
    }
}

fn row_rule(row: Row, t: &[&Type]) -> Result<Type, String> {
    // labels are whole numbers; every other operand is f32
    let floats: Vec<&Type> = match row {
        Row::CrossEntropy | Row::CrossEntropyBwd => vec![t[0]],
        _ => t.to_vec(),
    };
    let whole = || float(&floats, t[0].dims.clone());
    let per_row = || {
        let mut dims = t[0].dims.clone();
        if let Some(last) = dims.last_mut() {
            *last = Dim::ONE;
        }
        float(&floats, dims)
    };
    let scalar_eps = |eps: &Type| if eps.is_scalar() && eps.rank() <= t[0].rank() { Ok(()) } else { Err("eps must be a scalar".to_string()) };
    let like_first = |other: &Type| if other == t[0] { Ok(()) } else { Err(format!("{other} must be {}", t[0])) };
    if t[0].rank() == 0 && !matches!(row, Row::Sigmoid | Row::Gelu | Row::GeluGrad | Row::Silu | Row::Swiglu) {
        return Err("a row needs an axis".into());
    }
    match row {
        Row::Sigmoid | Row::Gelu | Row::GeluGrad | Row::Silu | Row::Softmax => whole(),
        Row::Swiglu => float(t, broadcast(t)?),
        Row::LogSumExp => per_row(),
        Row::SoftmaxBwd => like_first(t[1]).and_then(|()| whole()),
        Row::LayerNorm | Row::RmsNorm => scalar_eps(t[1]).and_then(|()| whole()),
        Row::LayerNormBwd | Row::RmsNormBwd => scalar_eps(t[1]).and_then(|()| like_first(t[2])).and_then(|()| whole()),
        Row::Rope => {
            let width = numeric(t[0].dim(-1))?;
            let fits = |c: &Type| numeric(c.dim(-1)).is_ok_and(|w| w * 2 == width) && c.rank() <= t[0].rank();
            let leading = |c: &Type| c.dims.iter().rev().zip(t[0].dims.iter().rev()).skip(1).all(|(c, x)| *c == Dim::ONE || c == x);
            if t[1] != t[2] || !fits(t[1]) || !leading(t[1]) {
                return Err("cos and sin must be alike, half as wide as x, and broadcast over it".into());
            }
            whole()
        }
        Row::CrossEntropy | Row::CrossEntropyBwd => {
            expect(t[1], DType::I32, "labels")?;
            countable(t[0].dim(-1))?;
            let per_row = per_row()?;
            if t[1].dims != per_row.dims {
                return Err(format!("labels must be i32[{}]", list(&per_row.dims)));
            }
            match row {
                Row::CrossEntropy => Ok(per_row),
                _ if *t[2] == per_row => whole(),
                _ => Err(format!("g must be {per_row}")),
            }
        }
    }
}

fn contract(ein: &Ein, t: &[&Type]) -> Result<Dims, String> {
    if ein.a.len() != t[0].rank() || ein.b.len() != t[1].rank() {
        return Err(format!("{ein} wants {} and {} axes", ein.a.len(), ein.b.len()));
    }
    sums_products(&ein.a, &ein.b, &ein.outs())?;
    let mut size = [None; LABELS];
    for (l, d) in ein.a.iter().zip(&t[0].dims).chain(ein.b.iter().zip(&t[1].dims)) {
        agree(&mut size, *l, *d).map_err(|why| format!("inner dims differ: {why}"))?;
    }
    Ok((0..ein.out).filter_map(|l| size[usize::from(l)]).collect())
}

/// Labels are small letters.
const LABELS: usize = 26;

/// A label as it is written.
fn letter(l: u8) -> char {
    char::from(b'a'.saturating_add(l))
}

/// Whether these are the labels of a contraction: each once an operand, and in the result, or else in both operands.
fn sums_products(a: &[u8], b: &[u8], out: &[u8]) -> Result<(), String> {
    let twice = |s: &[u8]| s.iter().enumerate().find(|(i, l)| s[..*i].contains(l)).map(|(_, l)| *l);
    if let Some(l) = [a, b, out].into_iter().find_map(twice) {
        return Err(format!("label {} stands twice for one tensor", letter(l)));
    }
    if let Some(l) = a.iter().chain(b).chain(out).find(|l| usize::from(**l) >= LABELS) {
        return Err(format!("label {l} is too large; there are {LABELS}"));
    }
    if let Some(l) = out.iter().find(|l| !a.contains(l) && !b.contains(l)) {
        return Err(format!("label {} has no size", letter(*l)));
    }
    match a.iter().chain(b).find(|l| !(out.contains(l) || a.contains(l) && b.contains(l))) {
        Some(l) => Err(format!("label {} is in one operand alone and not in the result", letter(*l))),
        None => Ok(()),
    }
}

/// Notes the size of a label, which is one in all operands.
fn agree(size: &mut [Option<Dim>; LABELS], l: u8, d: Dim) -> Result<(), String> {
    match size[usize::from(l)].replace(d) {
        Some(s) if s != d => Err(format!("label {} is {s} and {d}", letter(l))),
        _ => Ok(()),
    }
}

/// The size of every label of an attention, by its q, k and v; the grouped head has the size it has in q.
pub fn attention_sizes(a: &Attn, q: &Type, k: &Type, v: &Type) -> Result<[Option<Dim>; LABELS], String> {
    let mut size = [None; LABELS];
    for (i, (labels, ty)) in [(&a.q, q), (&a.k, k), (&a.v, v)].into_iter().enumerate() {
        if labels.len() != ty.rank() {
            return Err(format!("labels {a} do not fit the ranks of q, k and v"));
        }
        for (l, d) in labels.iter().zip(&ty.dims) {
            let grouped = a.group > 1 && *l == a.head && i > 0;
            let d = if grouped { d.times(Dim::from(a.group)).ok_or_else(|| format!("{d} groups of {} are too many", a.group))? } else { *d };
            agree(&mut size, *l, d)?;
        }
    }
    Ok(size)
}

/// Whether the labels mean softmax(q kᵀ) v, forward and backward: what its definition takes for granted.
fn attention_labels(a: &Attn) -> Result<(), String> {
    if !(2..=6).contains(&a.scores) {
        return Err(format!("scores have 2 to 6 axes, not {}", a.scores));
    }
    let scores: Vec<u8> = (0..a.scores).collect();
    let (key, rows) = (a.scores - 1, a.rows());
    if let Some(labels) = [&a.q, &a.k, &a.v, &a.o].into_iter().find(|l| l.len() > 8) {
        return Err(format!("an operand has at most 8 axes, not {}", labels.len()));
    }
    sums_products(&a.q, &a.k, &scores)?;
    sums_products(&scores, &a.v, &a.o)?;
    if a.q.contains(&key) || a.o.contains(&key) {
        return Err(format!("label {} is the softmax's axis, which k and v have alone", letter(key)));
    }
    if let Some(l) = rows.iter().find(|l| !a.o.contains(l)) {
        return Err(format!("label {} of the scores is not in the result", letter(*l)));
    }
    let everywhere = [&a.q, &a.k, &a.v, &a.o].into_iter().all(|x| x.contains(&a.head)) && rows.contains(&a.head);
    if a.group == 0 || (a.group > 1 && !everywhere) {
        return Err(format!("heads in groups of {} must be in q, k, v, the scores and the result", a.group));
    }
    Ok(())
}

fn attention(a: &Attn, q: &Type, k: &Type, v: &Type, scale: &Type, captured: &[&Type]) -> Result<Type, String> {
    attention_labels(a)?;
    if !scale.is_scalar() || scale.rank() > usize::from(a.scores) {
        return Err("scale must be a scalar".into());
    }
    same_dtype(q, k)?;
    same_dtype(k, v)?;
    let size = attention_sizes(a, q, k, v)?;
    let dims = |labels: &[u8]| labels.iter().filter_map(|l| size[usize::from(*l)]).collect::<Dims>();
    let scores = product(&[q, k], score_dims(a, q, k, v)?)?;
    scores.checked_count().map_err(|why| format!("the scores: {why}"))?;
    if !a.f.is_plain() {
        scores.dims[usize::from(a.scores) - 2..].iter().try_for_each(|d| countable(*d))?;
    }
    a.f.types(&scores.dims, captured)?;
    let o = Type { dtype: q.dtype, dims: dims(&a.o), parts: vec![] };
    let lse = Type { dims: dims(&a.rows()), ..scores };
    Ok(Type::tuple(vec![o, lse]))
}

/// The dims of an attention's scores: heads, queries, keys.
pub fn score_dims(a: &Attn, q: &Type, k: &Type, v: &Type) -> Result<Dims, String> {
    let size = attention_sizes(a, q, k, v)?;
    Ok((0..a.scores).filter_map(|l| size[usize::from(l)]).collect())
}

fn concat(a: i8, t: &[&Type]) -> Result<Type, String> {
    let first = *t.first().ok_or("there is nothing to put together")?;
    let i = axis(first, a)?;
    let mut whole = Dim::num(0);
    for part in t {
        let fits = part.dtype == first.dtype && part.rank() == first.rank() && (0..first.rank()).all(|j| j == i || part.dims[j] == first.dims[j]);
        if !fits {
            return Err(format!("{part} does not fit beside {first}"));
        }
        // one part may have a name for a size, and is so much longer for the others
        let (named, known) = if whole.value().is_some() { (part.dims[i], whole) } else { (whole, part.dims[i]) };
        whole = named.plus(numeric(known)?).ok_or_else(|| format!("dim {named} must be a number or a name here"))?;
    }
    Ok(Type { dims: first.dims.iter().enumerate().map(|(j, d)| if j == i { whole } else { *d }).collect(), ..first.clone() })
}

/// Numpy's broadcasting: axes are aligned at the end, sizes must agree or be 1.
pub fn broadcast(t: &[&Type]) -> Result<Dims, String> {
    let rank = t.iter().map(|t| t.rank()).max().unwrap_or(0);
    // the dim that many axes before the last
    let dim = |t: &Type, back: usize| t.rank().checked_sub(back).map_or(Dim::ONE, |i| t.dims[i]);
    let axis_dim = |back: usize| {
        t.iter().map(|t| dim(t, back)).try_fold(Dim::ONE, |have, d| match (have == Dim::ONE, d == Dim::ONE) {
            (true, _) => Ok(d),
            (false, true) => Ok(have),
            (false, false) if have == d => Ok(d),
            (false, false) => Err(format!("axis -{back} is {have} on one side and {d} on the other")),
        })
    };
    (1..=rank).rev().map(axis_dim).collect()
}

/// The index of an axis counted from the end.
pub fn axis(ty: &Type, a: i8) -> Result<usize, String> {
    usize::try_from(ty.rank() as i64 + i64::from(a)).ok().filter(|i| *i < ty.rank()).ok_or_else(|| format!("{ty} has no axis {a}"))
}

fn resized(ty: &Type, i: usize, size: u64) -> Result<Type, String> {
    let mut dims = ty.dims.clone();
    dims[i] = Dim::num(size);
    Ok(Type { dtype: ty.dtype, dims, parts: vec![] })
}

/// Whether a constant's bits are a number of the type, in the one form it has.
fn holds(dtype: DType, bits: u64) -> bool {
    let x = f64::from_bits(bits);
    let whole = |x: f64| x.fract() == 0.0 && (x != 0.0 || bits == 0);
    match dtype {
        DType::F32 => !x.is_nan() || bits == f64::NAN.to_bits(),
        DType::I32 => whole(x) && (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&x),
        DType::U32 => whole(x) && (0.0..=f64::from(u32::MAX)).contains(&x),
        DType::Bool => bits == 0 || x == 1.0,
        DType::BF16 | DType::F16 | DType::Tuple => false,
    }
}

/// Positions are counted in `i32`.
fn countable(d: Dim) -> Result<(), String> {
    match d.value() {
        Some(n) if n > 1 << 31 => Err(format!("{n} positions are more than an i32 counts")),
        _ => Ok(()),
    }
}

fn numeric(d: Dim) -> Result<u64, String> {
    d.value().ok_or_else(|| format!("dim {d} must be a number here"))
}

fn float(t: &[&Type], dims: Dims) -> Result<Type, String> {
    match t.iter().find(|t| t.dtype != DType::F32) {
        Some(other) => Err(format!("{other} is not f32")),
        None => Ok(Type { dtype: DType::F32, dims, parts: vec![] }),
    }
}

/// The type of sums of products: in 32 bits, of operands that are both so, or both of one type of 16.
fn product(t: &[&Type], dims: Dims) -> Result<Type, String> {
    if t[0].dtype.is_half() {
        same_dtype(t[0], t[1])?;
        return Ok(Type { dtype: DType::F32, dims, parts: vec![] });
    }
    float(t, dims)
}

fn expect(ty: &Type, dtype: DType, what: &str) -> Result<(), String> {
    if ty.dtype == dtype { Ok(()) } else { Err(format!("{what} must be {dtype}, not {}", ty.dtype)) }
}

fn same_dtype(a: &Type, b: &Type) -> Result<(), String> {
    if a.dtype == b.dtype { Ok(()) } else { Err(format!("element types differ: {} and {}", a.dtype, b.dtype)) }
}
