//! The type rule of every op, written once: the builder, the verifier and the e-graph's analysis call it.

use crate::op::{Attn, Bin, Ein, Op, Row};
use crate::types::{DType, Dim, Dims, Type, list};

/// The type of `op(args)`, or why it has none. A `repeat`'s type needs its body: see [`crate::Graph`].
pub fn infer(op: &Op, args: &[&Type]) -> Result<Type, String> {
    let spec = op.spec();
    if !op.variadic() && args.len() != spec.operands.len() {
        return Err(format!("{op} takes {} operands ({}), not {}", spec.operands.len(), spec.operands.join(", "), args.len()));
    }
    let ty = rule(op, args).map_err(|why| format!("{}: {why}", call(op, args)))?;
    ty.checked_count().map_err(|why| format!("{}: {why}", call(op, args)))?;
    Ok(ty)
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
        Op::Param(_, ty) | Op::Input(_, ty) => Ok(ty.clone()),
        Op::Const(_, dtype) if dtype.is_half() => Err(format!("a number is f32; cast it to {dtype}")),
        Op::Const(_, dtype) => Ok(Type::scalar(*dtype)),
        Op::Iota(axis, dim) => {
            let mut dims: Dims = std::iter::repeat_n(Dim::ONE, usize::from(axis.unsigned_abs())).collect();
            *dims.first_mut().ok_or("the axis must be negative")? = *dim;
            Ok(Type { dtype: DType::I32, dims, parts: vec![] })
        }
        Op::Size(_) => Ok(Type::scalar(DType::F32)),
        Op::Un(_) => float(t, t[0].dims.clone()),
        Op::StopGradient => same(t[0].dims.clone()),
        Op::Bin(bin) => binary(*bin, t),
        Op::Select => {
            expect(t[0], DType::Bool, "the condition")?;
            same_dtype(t[1], t[2])?;
            Ok(Type { dtype: t[1].dtype, dims: broadcast(t)?, parts: vec![] })
        }
        Op::Cast(dtype) if *dtype == DType::Tuple || t[0].dtype == DType::Tuple => Err("a tuple has no element type".into()),
        Op::Cast(dtype) => Ok(Type { dtype: *dtype, dims: t[0].dims.clone(), parts: vec![] }),
        Op::Reduce(_, axes) => {
            let mut dims = t[0].dims.clone();
            for a in axes {
                dims[axis(t[0], *a)?] = Dim::ONE;
            }
            float(t, dims)
        }
        Op::Contract(ein) => product(t, contract(ein, t)?),
        Op::Reshape(dims) => {
            let (from, to) = (t[0].checked_count()?, Type::of(DType::F32, dims.iter().copied()).checked_count()?);
            if from != to {
                return Err(format!("{from} elements cannot become [{}], which has {to}", list(dims)));
            }
            same(dims.clone())
        }
        Op::Transpose(order) => {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            if !sorted.iter().copied().eq(0..t[0].rank() as u8) {
                return Err(format!("[{}] is not an order of {} axes", list(order), t[0].rank()));
            }
            same(order.iter().map(|i| t[0].dims[usize::from(*i)]).collect())
        }
        Op::Broadcast(dims) => {
            let to = Type { dtype: t[0].dtype, dims: dims.clone(), parts: vec![] };
            if t[0].rank() > dims.len() || (1..=t[0].rank() as i8).any(|a| t[0].dim(-a) != Dim::ONE && t[0].dim(-a) != to.dim(-a)) {
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
            let whole = numeric(t[0].dims[i])?.checked_add(u64::from(*before) + u64::from(*after)).ok_or("too large")?;
            resized(t[0], i, whole)
        }
        Op::Concat(a) => concat(*a, t),
        Op::Gather => {
            expect(t[1], DType::I32, "the index")?;
            let row = t[0].dims.get(1..).ok_or("the table has no axis to index")?;
            same(t[1].dims.iter().chain(row).copied().collect())
        }
        Op::ScatterAdd => {
            expect(t[1], DType::I32, "the index")?;
            same_dtype(t[0], t[2])?;
            let row = t[0].dims.get(1..).ok_or("the base has no axis to index")?;
            let want: Dims = t[1].dims.iter().chain(row).copied().collect();
            if want != t[2].dims {
                return Err(format!("the updates must be [{}]", list(&want)));
            }
            same(t[0].dims.clone())
        }
        Op::RandomBits(dims) => {
            expect(t[0], DType::U32, "the key")?;
            if !t[0].is_scalar() {
                return Err("the key must be a scalar".into());
            }
            Ok(Type { dtype: DType::U32, dims: dims.clone(), parts: vec![] })
        }
        Op::Repeat(_) => Err("the type of a repeat depends on its body".into()),
        Op::Tuple => Ok(Type::tuple(t.iter().map(|t| (*t).clone()).collect())),
        Op::Get(i) => t[0].parts.get(*i as usize).cloned().ok_or_else(|| format!("there is no member {i}")),
        Op::Row(row) => row_rule(*row, t),
        Op::Attention(a) => attention(a, t[0], t[1], t[2], t[3]),
        Op::AttentionBwd(a) => {
            let forward = attention(a, t[0], t[1], t[2], t[6])?;
            if *t[3] != forward.parts[0] || *t[4] != forward.parts[1] || *t[5] != forward.parts[0] {
                return Err(format!("o, lse and do must be as attention gives them: {forward}"));
            }
            Ok(Type::tuple(t[..3].iter().map(|x| Type { dtype: DType::F32, ..(*x).clone() }).collect()))
        }
        Op::AdamW(_) => {
            if t[1..4].iter().any(|x| *x != t[0]) || t[4..].iter().any(|x| !x.is_scalar()) {
                return Err("p, g, m and v must have one type, and the rest must be scalars".into());
            }
            Ok(Type::tuple(vec![t[0].clone(); 3]))
        }
    }
}

fn binary(bin: Bin, t: &[&Type]) -> Result<Type, String> {
    same_dtype(t[0], t[1])?;
    let dims = broadcast(t)?;
    match bin {
        _ if t[0].dtype.is_half() => Err(format!("{} has no arithmetic; cast to f32", t[0].dtype)),
        Bin::Lt | Bin::Le | Bin::Eq => Ok(Type { dtype: DType::Bool, dims, parts: vec![] }),
        Bin::Pow | Bin::Div => float(t, dims),
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
        *dims.last_mut().ok_or("a row needs an axis")? = Dim::ONE;
        float(&floats, dims)
    };
    let scalar_eps = |eps: &Type| if eps.is_scalar() { Ok(()) } else { Err("eps must be a scalar".to_string()) };
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
            let leading = |c: &Type| (2..=c.rank() as i8).all(|a| c.dim(-a) == Dim::ONE || c.dim(-a) == t[0].dim(-a));
            if t[1] != t[2] || !fits(t[1]) || !leading(t[1]) {
                return Err("cos and sin must be alike, half as wide as x, and broadcast over it".into());
            }
            whole()
        }
        Row::CrossEntropy | Row::CrossEntropyBwd => {
            expect(t[1], DType::I32, "labels")?;
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
    let mut size = [None; 32];
    for (l, d) in ein.a.iter().zip(&t[0].dims).chain(ein.b.iter().zip(&t[1].dims)) {
        let known = size.get_mut(usize::from(*l)).ok_or("too many labels")?;
        match known {
            Some(s) if *s != *d => return Err(format!("inner dims differ: label {} is {s} and {d}", (b'a' + l) as char)),
            _ => *known = Some(*d),
        }
    }
    (0..ein.out).map(|l| size[usize::from(l)].ok_or_else(|| format!("label {} has no size", (b'a' + l) as char))).collect()
}

/// The size of every label of an attention, by its q, k and v; the grouped head has the size it has in q.
pub fn attention_sizes(a: &Attn, q: &Type, k: &Type, v: &Type) -> Result<[Option<Dim>; 32], String> {
    let mut size = [None; 32];
    for (labels, ty) in [(&a.q, q), (&a.k, k), (&a.v, v)] {
        if labels.len() != ty.rank() {
            return Err(format!("labels {a} do not fit the ranks of q, k and v"));
        }
        for (l, d) in labels.iter().zip(&ty.dims) {
            let grouped = a.group > 1 && *l == a.head && !std::ptr::eq(ty, q);
            let d = if grouped { d.times(Dim::from(a.group)).ok_or("too large")? } else { *d };
            let known = size.get_mut(usize::from(*l)).ok_or("too many labels")?;
            match known {
                Some(s) if *s != d => return Err(format!("label {} is {s} and {d}", (b'a' + l) as char)),
                _ => *known = Some(d),
            }
        }
    }
    Ok(size)
}

fn attention(a: &Attn, q: &Type, k: &Type, v: &Type, scale: &Type) -> Result<Type, String> {
    if !scale.is_scalar() {
        return Err("scale must be a scalar".into());
    }
    same_dtype(q, k)?;
    same_dtype(k, v)?;
    let size = attention_sizes(a, q, k, v)?;
    let dim = |l: &u8| size.get(usize::from(*l)).copied().flatten().ok_or_else(|| format!("label {} has no size", (b'a' + l) as char));
    let o = a.o.iter().map(dim).collect::<Result<Dims, _>>()?;
    let rows = a.rows().iter().map(dim).collect::<Result<Dims, _>>()?;
    dim(&(a.scores - 1))?;
    let lse = product(&[q, k], rows)?;
    Ok(Type::tuple(vec![Type { dtype: q.dtype, dims: o, parts: vec![] }, lse]))
}

fn concat(a: i8, t: &[&Type]) -> Result<Type, String> {
    let first = *t.first().ok_or("nothing to put together")?;
    let i = axis(first, a)?;
    let mut whole = 0u64;
    for part in t {
        let fits = part.dtype == first.dtype && part.rank() == first.rank() && (0..first.rank()).all(|j| j == i || part.dims[j] == first.dims[j]);
        if !fits {
            return Err(format!("{part} does not fit beside {first}"));
        }
        whole = whole.checked_add(numeric(part.dims[i])?).ok_or("too large")?;
    }
    resized(first, i, whole)
}

/// Numpy's broadcasting: axes are aligned at the end, sizes must agree or be 1.
pub fn broadcast(t: &[&Type]) -> Result<Dims, String> {
    if t.iter().any(|t| t.dtype == DType::Tuple) {
        return Err("a tuple is not a tensor".into());
    }
    let rank = t.iter().map(|t| t.rank()).max().unwrap_or(0);
    let axis_dim = |a: i8| {
        t.iter().map(|t| t.dim(-a)).try_fold(Dim::ONE, |have, d| match (have == Dim::ONE, d == Dim::ONE) {
            (true, _) => Ok(d),
            (false, true) => Ok(have),
            (false, false) if have == d => Ok(d),
            (false, false) => Err(format!("axis -{a} is {have} on one side and {d} on the other")),
        })
    };
    (1..=rank as i8).rev().map(axis_dim).collect()
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
