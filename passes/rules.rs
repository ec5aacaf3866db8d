//! The equations. A name, what it does to the bits, a left side, a right side, and what must hold.
//!
//! There is no associativity or commutativity of `add` or `mul` here: the residual stream is one sum through the whole model, and such
//! rules are exponential in it. Layouts never appear: transposes fold into the labels of `contract` and `attention`.

use crate::rule::Legality::{Approximate, Exact, Reassociates};
use crate::rule::{Match, Rule, rule};
use crate::term::close;
use ir::{Attn, Dim, Dims, Ein, Labels, Op, num};

fn always(_: &mut Match) -> Option<()> {
    Some(())
}
fn when(holds: bool) -> Option<()> {
    holds.then_some(())
}
fn scalar(m: &Match, v: &str) -> bool {
    m.ty(v).is_scalar()
}
fn number(m: &Match, v: &str) -> bool {
    m.number(v).is_some() && m.ty(v).rank() == 0
}
/// One value a row: size 1 on the last axis, but not a scalar.
fn row(m: &Match, v: &str) -> bool {
    m.ty(v).dim(-1) == Dim::ONE && !scalar(m, v)
}
/// `?x` has the type of the whole, so that dropping the other operand drops no broadcast.
fn covers(m: &Match, x: &str, other: &str) -> bool {
    ir::broadcast(&[m.ty(x), m.ty(other)]).is_ok_and(|d| d == m.ty(x).dims)
}
/// `?c` is one over the size of the last axis of `?x`.
fn is_mean(m: &Match, c: &str, x: &str) -> bool {
    let n = m.ty(x).dim(-1).value().unwrap_or(0) as f64;
    m.number(c).is_some_and(|c| close(c * n, 1.0))
}
/// `?z` has size 1 on every axis that `[?r]` reduces.
fn constant_along(m: &Match, z: &str, r: &str) -> bool {
    if let Op::Reduce(_, axes) = m.op(r) { axes.iter().all(|a| m.ty(z).dim(*a) == Dim::ONE) } else { false }
}
fn is(m: &Match, v: &str, x: f64) -> bool {
    m.number(v).is_some_and(|n| close(n, x))
}
fn set_number(m: &mut Match, v: &str, x: f64) -> Option<()> {
    when(x.is_finite())?;
    m.set(v, num(x))
}
fn same_dims(m: &Match, broadcast: &str, x: &str) -> bool {
    if let Op::Broadcast(dims) = m.op(broadcast) { m.ty(x).dims == *dims } else { false }
}

/// One spelling for arithmetic: powers, quotients by numbers, negatives, roots.
#[rustfmt::skip]
pub fn arithmetic() -> Vec<Rule> { vec![
    rule("square",          Exact,        "(pow ?x 2.0)",                "(mul ?x ?x)",                 always),
    rule("cube",            Reassociates, "(pow ?x 3.0)",                "(mul (mul ?x ?x) ?x)",        always),
    rule("pow-half",        Approximate,  "(pow ?x 0.5)",                "(sqrt ?x)",                   always),
    rule("pow-minus-half",  Approximate,  "(pow ?x -0.5)",               "(rsqrt ?x)",                  always),
    rule("pow-minus-one",   Exact,        "(pow ?x -1.0)",               "(recip ?x)",                  always),
    rule("one-over",        Exact,        "(div 1.0 ?x)",                "(recip ?x)",                  always),
    rule("recip-sqrt",      Approximate,  "(recip (sqrt ?x))",           "(rsqrt ?x)",                  always),
    rule("div-sqrt",        Approximate,  "(div ?x (sqrt ?y))",          "(mul ?x (rsqrt ?y))",         always),
    rule("div-number",      Reassociates, "(div ?x ?c)",                 "(mul ?x const[?r])",          |m| { when(number(m, "c"))?; let c = m.number("c")?; set_number(m, "r", 1.0 / c) }),
    rule("mul-recip",       Reassociates, "(mul ?x (recip ?y))",         "(div ?x ?y)",                 always),
    rule("neg",             Exact,        "(neg ?x)",                    "(mul ?x -1.0)",               always),
    rule("add-minus",       Exact,        "(add ?x (mul ?y -1.0))",      "(sub ?x ?y)",                 always),
    rule("sub-minus",       Exact,        "(sub ?x (mul ?y -1.0))",      "(add ?x ?y)",                 always),
    rule("twice",           Exact,        "(add ?x ?x)",                 "(mul ?x 2.0)",                |m| when(m.ty("x").dtype == ir::DType::F32)),
    rule("fold-numbers",    Exact,        "(mul ?a ?b)",                 "const[?r]",                   |m| { when(number(m, "a") && number(m, "b") && m.ty("a").dtype == ir::DType::F32)?; let r = m.number("a")? * m.number("b")?; set_number(m, "r", r) }),
    rule("fold",            Reassociates, "(mul (mul ?x ?a) ?b)",        "(mul ?x const[?r])",          |m| { when(number(m, "a") && number(m, "b") && m.ty("a").dtype == ir::DType::F32)?; let r = m.number("a")? * m.number("b")?; set_number(m, "r", r) }),
    rule("times-one",       Exact,        "(mul ?x 1.0)",                "?x",                          always),
    rule("add-zero",        Exact,        "(add ?x 0.0)",                "?x",                          always),
    rule("sub-zero",        Exact,        "(sub ?x 0.0)",                "?x",                          always),
    rule("unbroadcast-add", Exact,        "(add ?x (broadcast[?b] ?y))", "(add ?x ?y)",                 |m| when(same_dims(m, "b", "x"))),
    rule("unbroadcast-mul", Exact,        "(mul ?x (broadcast[?b] ?y))", "(mul ?x ?y)",                 |m| when(same_dims(m, "b", "x"))),
    rule("unbroadcast-sub", Exact,        "(sub ?x (broadcast[?b] ?y))", "(sub ?x ?y)",                 |m| when(same_dims(m, "b", "x"))),
    rule("unbroadcast-div", Exact,        "(div ?x (broadcast[?b] ?y))", "(div ?x ?y)",                 |m| when(same_dims(m, "b", "x"))),
]}

/// A number multiplies last; then a value a row; then a gain.
#[rustfmt::skip]
pub fn scalars_out() -> Vec<Rule> { vec![
    rule("contract-number",  Reassociates, "(contract[?e] (mul ?x ?c) ?y)",   "(mul (contract[?e] ?x ?y) ?c)",       |m| when(number(m, "c"))),
    rule("reshape-number",   Exact,        "(reshape[?r] (mul ?x ?c))",       "(mul (reshape[?r] ?x) ?c)",           |m| when(number(m, "c"))),
    rule("transpose-number", Exact,        "(transpose[?r] (mul ?x ?c))",     "(mul (transpose[?r] ?x) ?c)",         |m| when(number(m, "c"))),
    rule("broadcast-number", Exact,        "(broadcast[?r] (mul ?x ?c))",     "(mul (broadcast[?r] ?x) ?c)",         |m| when(number(m, "c"))),
    rule("slice-number",     Exact,        "(slice[?r] (mul ?x ?c))",         "(mul (slice[?r] ?x) ?c)",             |m| when(number(m, "c"))),
    rule("mul-number",       Reassociates, "(mul (mul ?x ?c) ?y)",            "(mul (mul ?x ?y) ?c)",                |m| when(number(m, "c") && !number(m, "y") && !number(m, "x"))),
    rule("div-scaled",       Reassociates, "(div (mul ?x ?c) ?y)",            "(mul (div ?x ?y) ?c)",                |m| when(number(m, "c") && !number(m, "y"))),
    rule("div-by-scaled",    Reassociates, "(div ?x (mul ?y ?c))",            "(mul (div ?x ?y) const[?r])",         |m| { when(number(m, "c") && !number(m, "y"))?; let c = m.number("c")?; set_number(m, "r", 1.0 / c) }),
    rule("sum-number",       Reassociates, "(sum[?r] (mul ?x ?z))",           "(mul (sum[?r] ?x) ?z)",               |m| when(constant_along(m, "z", "r") && m.ty("x").rank() >= m.ty("z").rank() && !number(m, "x") && covers(m, "x", "z"))),
    rule("mask-number",      Exact,        "(mul (select ?p ?x -inf) ?c)",    "(select ?p (mul ?x ?c) -inf)",        |m| when(number(m, "c") && m.number("c")? > 0.0)),
    rule("row-before-gain",  Reassociates, "(mul (mul ?x ?g) ?r)",            "(mul (mul ?x ?r) ?g)",                |m| when(row(m, "r") && m.ty("g").dim(-1) != Dim::ONE && m.ty("g").rank() == 1 && m.ty("x").rank() > 1)),
    rule("row-gain-split",   Reassociates, "(mul ?x (mul ?r ?g))",            "(mul (mul ?x ?r) ?g)",                |m| when(row(m, "r") && m.ty("g").dim(-1) != Dim::ONE && m.ty("g").rank() == 1 && m.ty("x").rank() > 1 && m.ty("x").dim(-1) != Dim::ONE)),
]}

fn untranspose(labels: &[u8], order: &[u8]) -> Labels {
    let mut out: Labels = labels.into();
    for (i, j) in order.iter().enumerate() {
        out[usize::from(*j)] = labels[i];
    }
    out
}
fn order(m: &Match, v: &str) -> Labels {
    if let Op::Transpose(p) = m.op(v) { p.clone() } else { panic!("[?{v}] is not a transpose") }
}
fn set_attn(m: &mut Match, edit: impl Fn(&mut Attn, &[u8])) -> Option<()> {
    let (mut a, p) = (m.attn("e").clone(), order(m, "p"));
    edit(&mut a, &p);
    m.set("f", Op::Attention(a))
}

/// Transposes fold into contractions and attention, which absorb any layout.
#[rustfmt::skip]
pub fn layout() -> Vec<Rule> { vec![
    rule("contract-transpose",  Exact, "(contract[?e] (transpose[?p] ?x) ?y)",  "(contract[?f] ?x ?y)",         |m| { let (e, p) = (m.ein("e").clone(), order(m, "p")); m.set("f", Op::Contract(Ein::new(&untranspose(&e.a, &p), &e.b, &e.outs()))) }),
    rule("transpose-contract",  Exact, "(transpose[?p] (contract[?e] ?x ?y))",  "(contract[?f] ?x ?y)",         |m| { let (e, p) = (m.ein("e").clone(), order(m, "p")); m.set("f", Op::Contract(Ein::new(&e.a, &e.b, &p))) }),
    rule("attention-transpose", Exact, "(transpose[?p] (get[0] (attention[?e] ?q ?k ?v ?c)))", "(get[0] (attention[?f] ?q ?k ?v ?c))", |m| set_attn(m, |a, p| a.o = p.iter().map(|i| a.o[usize::from(*i)]).collect())),
    rule("attention-q-transpose", Exact, "(attention[?e] (transpose[?p] ?q) ?k ?v ?c)", "(attention[?f] ?q ?k ?v ?c)", |m| set_attn(m, |a, p| a.q = untranspose(&a.q, p))),
    rule("attention-k-transpose", Exact, "(attention[?e] ?q (transpose[?p] ?k) ?v ?c)", "(attention[?f] ?q ?k ?v ?c)", |m| set_attn(m, |a, p| a.k = untranspose(&a.k, p))),
    rule("attention-v-transpose", Exact, "(attention[?e] ?q ?k (transpose[?p] ?v) ?c)", "(attention[?f] ?q ?k ?v ?c)", |m| set_attn(m, |a, p| a.v = untranspose(&a.v, p))),
    rule("transpose-twice",     Exact, "(transpose[?p] (transpose[?q] ?x))",    "(transpose[?r] ?x)",           |m| { let (p, q) = (order(m, "p"), order(m, "q")); m.set("r", Op::Transpose(p.iter().map(|i| q[usize::from(*i)]).collect())) }),
    rule("transpose-nothing",   Exact, "(transpose[?p] ?x)",                    "?x",                           |m| when(order(m, "p").iter().enumerate().all(|(i, j)| i as u8 == *j))),
    rule("reshape-twice",       Exact, "(reshape[?p] (reshape[?q] ?x))",        "(reshape[?p] ?x)",             always),
    rule("reshape-nothing",     Exact, "(reshape[?p] ?x)",                      "?x",                           |m| when(if let Op::Reshape(d) = m.op("p") { m.ty("x").dims == *d } else { false })),
    rule("broadcast-nothing",   Exact, "(broadcast[?p] ?x)",                    "?x",                           |m| when(same_dims(m, "p", "x"))),
    rule("slice-nothing",       Exact, "(slice[?p] ?x)",                        "?x",                           |m| when(if let Op::Slice(a, 0, hi) = m.op("p") { m.ty("x").dim(*a) == Dim::from(*hi) } else { false })),
]}

/// softmax(q kᵀ) v, as labels over one numbering, if these two contractions are that.
fn attention_of(qk: &Ein, pv: &Ein, causal: bool) -> Option<Attn> {
    let (rank, s) = (qk.out, qk.out.checked_sub(1)?);
    when(rank >= 2 && pv.a.len() == usize::from(rank) && qk.b.contains(&s) && !qk.a.contains(&s))?;
    when(!causal || (qk.a.contains(&(rank - 2)) && !qk.b.contains(&(rank - 2))))?;
    let summed: Labels = pv.contracted();
    when(summed[..] == [pv.a[usize::from(s)]] && pv.b.contains(&summed[0]))?;
    let mut map: Vec<(u8, u8)> = pv.a.iter().enumerate().map(|(i, l)| (*l, i as u8)).collect();
    let mut next = qk.a.iter().chain(&qk.b).max()? + 1;
    for l in &pv.b {
        if !map.iter().any(|m| m.0 == *l) {
            map.push((*l, next));
            next += 1;
        }
    }
    let relabel = |ls: &[u8]| ls.iter().map(|l| map.iter().find(|m| m.0 == *l).map(|m| m.1)).collect::<Option<Labels>>();
    let a = Attn { q: qk.a.clone(), k: qk.b.clone(), v: relabel(&pv.b)?, o: relabel(&pv.outs())?, scores: rank, causal, group: 1, head: 0 };
    // every score label must reach the output, or the kernel would have to sum over rows; and each of k, v must have its own last label
    when((0..rank - 1).all(|l| a.o.contains(&l) && a.q.contains(&l)))?;
    Some(a)
}
fn set_attention(m: &mut Match, causal: bool) -> Option<()> {
    let a = attention_of(m.ein("qk"), m.ein("pv"), causal)?;
    if causal {
        when(is_causal(m))?;
    }
    m.set("at", Op::Attention(a))
}
/// The mask `[?ik] ≤ [?iq]` compares the last two axes of the scores.
fn is_causal(m: &Match) -> bool {
    let (Op::Iota(k, kd), Op::Iota(q, qd), e) = (m.op("ik"), m.op("iq"), m.ein("qk")) else { return false };
    let dim = |label: u8| {
        e.a.iter().position(|l| *l == label).map(|i| m.ty("q").dims[i]).or_else(|| e.b.iter().position(|l| *l == label).map(|i| m.ty("k").dims[i]))
    };
    *k == -1 && *q == -2 && e.out >= 2 && dim(e.out - 1) == Some(*kd) && dim(e.out - 2) == Some(*qd)
}

/// reshape ∘ broadcast ∘ reshape that repeats each head `n` times: the head's axis, the repeats, and the dims without them.
fn repeated(m: &Match, outer: &str, wide: &str, inner: &str) -> Option<(usize, u32, Dims)> {
    let (Op::Reshape(r), Op::Broadcast(b), Op::Reshape(s)) = (m.op(outer), m.op(wide), m.op(inner)) else { return None };
    when(b.len() == s.len() && r.len() + 1 == s.len())?;
    let at = (1..s.len()).find(|i| s[*i] == Dim::ONE && b[*i] != Dim::ONE && (0..s.len()).all(|j| j == *i || s[j] == b[j]))?;
    let narrow: Dims = s.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, d)| *d).collect();
    let merged: Dims = narrow.iter().enumerate().map(|(j, d)| if j + 1 == at { d.times(b[at]) } else { Some(*d) }).collect::<Option<_>>()?;
    when(merged == *r)?;
    Some((at - 1, u32::try_from(b[at].value()?).ok()?, narrow))
}
fn grouped(m: &mut Match) -> Option<()> {
    let ((ka, kn, kd), (va, vn, vd)) = (repeated(m, "r", "b", "s")?, repeated(m, "u", "w", "t")?);
    let mut a = m.attn("at").clone();
    let head = a.k[ka];
    // the softmax axis is never grouped
    when(kn == vn && kn > 1 && head == a.v[va] && a.group == 1 && a.q.contains(&head) && head + 2 <= a.scores)?;
    (a.group, a.head) = (kn, head);
    m.set("g", Op::Attention(a))?;
    m.set("kd", Op::Reshape(kd))?;
    m.set("vd", Op::Reshape(vd))
}

/// √(2/π) and 0.044715, as GELU's tanh form has them.
fn gelu_numbers(m: &Match) -> Option<()> {
    when(is(m, "a", 0.044715) && is(m, "b", (2.0 / std::f64::consts::PI).sqrt()))
}
fn is_rope(m: &mut Match) -> Option<()> {
    let (Op::Slice(la, l0, l1), Op::Slice(ha, h0, h1)) = (m.op("lo"), m.op("hi")) else { return None };
    let width = m.ty("x").dim(-1).value()?;
    let fits = |c: &str| {
        m.ty(c).rank() <= m.ty("x").rank() && (2..=m.ty(c).rank() as i8).all(|a| m.ty(c).dim(-a) == Dim::ONE || m.ty(c).dim(-a) == m.ty("x").dim(-a))
    };
    when((*la, *ha, *l0, *h0) == (-1, -1, 0, *l1) && u64::from(*h1) == width && u64::from(*l1) * 2 == width)?;
    when(m.ty("cos") == m.ty("sin") && m.ty("cos").dim(-1) == Dim::from(*l1) && fits("cos"))
}
/// The iota of `[?i]` counts the classes of `?x`, and `?l` is one label a row.
fn one_hot(m: &Match) -> Option<()> {
    let Op::Iota(-1, classes) = m.op("i") else { return None };
    let mut rows = m.ty("x").dims.clone();
    *rows.last_mut()? = Dim::ONE;
    when(m.ty("x").dim(-1) == *classes && m.ty("l").dims == rows)
}

/// Each composite and the arithmetic it stands for, in normal form.
#[rustfmt::skip]
pub fn recognise() -> Vec<Rule> { vec![
    rule("softmax",          Reassociates, "(div (exp ?x) (sum[-1] (exp ?x)))",                     "(softmax ?x)",              always),
    rule("softmax-shift",    Reassociates, "(softmax (sub ?x ?m))",                                 "(softmax ?x)",              |m| when(m.ty("m").dim(-1) == Dim::ONE && covers(m, "x", "m"))),
    rule("softmax-lse",      Reassociates, "(exp (sub ?x (logsumexp ?x)))",                         "(softmax ?x)",              always),
    rule("logsumexp",        Reassociates, "(log (sum[-1] (exp ?x)))",                              "(logsumexp ?x)",            always),
    rule("logsumexp-shift",  Reassociates, "(add (logsumexp (sub ?x ?m)) ?m)",                      "(logsumexp ?x)",            |m| when(m.ty("m").dim(-1) == Dim::ONE && covers(m, "x", "m"))),
    rule("log-softmax",      Reassociates, "(log (softmax ?x))",                                    "(sub ?x (logsumexp ?x))",   always),
    rule("cross-entropy",    Reassociates, "(mul (sub (logsumexp ?x) (sum[-1] (select (eq iota[?i] ?l) ?x 0.0))) (cast[f32] (le 0 ?l)))", "(cross_entropy ?x ?l)", |m| one_hot(m)),

    rule("rms_norm",         Reassociates, "(mul ?x (rsqrt (add (mul (sum[-1] (mul ?x ?x)) ?n) ?eps)))",  "(rms_norm ?x ?eps)",   |m| when(is_mean(m, "n", "x") && scalar(m, "eps"))),
    rule("layer_norm",       Reassociates, "(rms_norm (sub ?x (mul (sum[-1] ?x) ?n)) ?eps)",              "(layer_norm ?x ?eps)", |m| when(is_mean(m, "n", "x"))),

    rule("sigmoid",          Reassociates, "(recip (add (exp (mul ?x ?c)) 1.0))",                   "(sigmoid (mul ?x const[?r]))", |m| { when(number(m, "c"))?; let c = m.number("c")?; set_number(m, "r", -c) }),
    rule("sigmoid-quotient", Reassociates, "(div ?y (add (exp (mul ?x ?c)) 1.0))",                  "(mul ?y (sigmoid (mul ?x const[?r])))", |m| { when(number(m, "c"))?; let c = m.number("c")?; set_number(m, "r", -c) }),
    rule("silu",             Exact,        "(mul ?x (sigmoid ?x))",                                 "(silu ?x)",                 always),
    rule("swiglu",           Exact,        "(mul (silu ?a) ?b)",                                    "(swiglu ?a ?b)",            |m| when(m.ty("a") == m.ty("b"))),
    rule("gelu",             Approximate,  "(mul ?x (add (tanh (mul (add ?x (mul (mul (mul ?x ?x) ?x) ?a)) ?b)) 1.0))",          "(mul (gelu ?x) 2.0)", |m| gelu_numbers(m)),
    rule("gelu-factored",    Approximate,  "(mul ?x (add (tanh (mul (mul ?x (add (mul (mul ?x ?x) ?a) 1.0)) ?b)) 1.0))",         "(mul (gelu ?x) 2.0)", |m| gelu_numbers(m)),
    rule("rope",             Reassociates, "(add (mul ?x (concat[-1] ?cos ?cos)) (mul (concat[-1] (mul (slice[?hi] ?x) -1.0) (slice[?lo] ?x)) (concat[-1] ?sin ?sin)))", "(rope ?x ?cos ?sin)", is_rope),
    rule("rope-halves",      Reassociates, "(concat[-1] (sub (mul (slice[?lo] ?x) ?cos) (mul (slice[?hi] ?x) ?sin)) (add (mul (slice[?hi] ?x) ?cos) (mul (slice[?lo] ?x) ?sin)))", "(rope ?x ?cos ?sin)", is_rope),

    rule("mask-add",         Exact,        "(add ?s (select ?p 0.0 -inf))",                         "(select ?p ?s -inf)",       |m| when(covers(m, "s", "p") || m.ty("p").rank() <= m.ty("s").rank())),
    rule("mask-not",         Exact,        "(select (lt ?a ?b) ?x ?y)",                             "(select (le ?b ?a) ?y ?x)", |m| when(m.ty("a").dtype == ir::DType::I32)),

    rule("attention",          Reassociates, "(contract[?pv] (softmax (mul (contract[?qk] ?q ?k) ?c)) ?v)",  "(get[0] (attention[?at] ?q ?k ?v ?c))",   |m| { when(scalar(m, "c"))?; set_attention(m, false) }),
    rule("attention-unscaled", Reassociates, "(contract[?pv] (softmax (contract[?qk] ?q ?k)) ?v)",           "(get[0] (attention[?at] ?q ?k ?v 1.0))",  |m| set_attention(m, false)),
    rule("attention-causal",   Reassociates, "(contract[?pv] (softmax (select (le iota[?ik] iota[?iq]) (mul (contract[?qk] ?q ?k) ?c) -inf)) ?v)", "(get[0] (attention[?at] ?q ?k ?v ?c))",  |m| { when(scalar(m, "c"))?; set_attention(m, true) }),
    rule("attention-causal-unscaled", Reassociates, "(contract[?pv] (softmax (select (le iota[?ik] iota[?iq]) (contract[?qk] ?q ?k) -inf)) ?v)",   "(get[0] (attention[?at] ?q ?k ?v 1.0))", |m| set_attention(m, true)),
    rule("attention-grouped",  Exact,        "(attention[?at] ?q (reshape[?r] (broadcast[?b] (reshape[?s] ?k))) (reshape[?u] (broadcast[?w] (reshape[?t] ?v))) ?c)", "(attention[?g] ?q (reshape[?kd] ?k) (reshape[?vd] ?v) ?c)", grouped),
]}

fn pads(m: &mut Match) -> Option<()> {
    let (Op::Pad(ax, x0, x1), Op::Pad(ay, y0, y1)) = (m.op("a"), m.op("b")) else { return None };
    let width = u32::try_from(m.ty("x").dim(*ax).value()?).ok()?;
    when(ax == ay && x0 + width == *y0 && m.ty("x").rank() == m.ty("y").rank() && *x1 >= *y1)?;
    let (pad, concat) = (Op::Pad(*ax, *x0, *y1), Op::Concat(*ax));
    m.set("p", pad)?;
    m.set("c", concat)
}

/// What reverse mode leaves to do.
#[rustfmt::skip]
pub fn joint() -> Vec<Rule> { vec![
    rule("pads-to-concat",   Exact,        "(add (pad[?a] ?x) (pad[?b] ?y))",              "(pad[?p] (concat[?c] ?x ?y))",  pads),
    rule("pad-nothing",      Exact,        "(pad[?a] ?x)",                                 "?x",                            |m| when(matches!(m.op("a"), Op::Pad(_, 0, 0)))),
    rule("scatter-into",     Exact,        "(add ?x (scatter_add (broadcast[?b] 0.0) ?i ?u))", "(scatter_add ?x ?i ?u)",    |m| when(same_dims(m, "b", "x"))),
    rule("softmax-bwd",      Exact,        "(mul ?p (sub ?g (sum[-1] (mul ?p ?g))))",      "(softmax_bwd ?p ?g)",           |m| when(m.ty("p") == m.ty("g"))),
]}

/// (a b) c = a (b c), by labels: the inner and the outer contraction of the other order.
fn associate(outer: &Ein, inner: &Ein) -> Option<(Ein, Ein)> {
    let mut map: Vec<(u8, u8)> = outer.a.iter().enumerate().map(|(i, l)| (*l, i as u8)).collect();
    let mut next = inner.a.iter().chain(&inner.b).max()? + 1;
    for l in &outer.b {
        if !map.iter().any(|m| m.0 == *l) {
            map.push((*l, next));
            next += 1;
        }
    }
    let relabel = |ls: &[u8]| -> Option<Labels> { ls.iter().map(|l| map.iter().find(|m| m.0 == *l).map(|m| m.1)).collect() };
    let (a, b, c, out) = (&inner.a, &inner.b, relabel(&outer.b)?, relabel(&outer.outs())?);
    let needed = |l: &u8| a.contains(l) || out.contains(l);
    let mut kept: Labels = b.iter().copied().filter(needed).collect();
    kept.extend(c.iter().copied().filter(|l| needed(l) && !b.contains(l)));
    // every label that is summed must be in both factors, and b and c must share one: an outer product inside is never wanted
    let sums = |x: &[u8], y: &[u8], out: &[u8]| x.iter().chain(y).all(|l| out.contains(l) || (x.contains(l) && y.contains(l)));
    when(kept.len() <= 5 && sums(b, &c, &kept) && sums(a, &kept, &out) && b.iter().any(|l| c.contains(l) && !kept.contains(l)))?;
    Some((Ein::new(b, &c, &kept), Ein::new(a, &kept, &out)))
}

/// Choices: more than one form is worth having, and shapes decide. Two ways on purpose, so for saturation alone.
#[rustfmt::skip]
pub fn choices() -> Vec<Rule> { vec![
    rule("associate",        Reassociates, "(contract[?o] (contract[?i] ?a ?b) ?c)",       "(contract[?p] ?a (contract[?j] ?b ?c))", |m| { let (j, p) = associate(m.ein("o"), m.ein("i"))?; m.set("j", Op::Contract(j))?; m.set("p", Op::Contract(p)) }),
    rule("factor",           Reassociates, "(add (contract[?e] ?x ?u) (contract[?e] ?x ?v))", "(contract[?e] ?x (add ?u ?v))",       |m| when(m.ty("u") == m.ty("v"))),
    rule("distribute",       Reassociates, "(contract[?e] ?x (add ?u ?v))",                "(add (contract[?e] ?x ?u) (contract[?e] ?x ?v))", |m| when(m.ty("u") == m.ty("v"))),
]}

/// One spelling and one layout, nothing recognised yet: one way, so no e-graph is needed.
pub fn normal_form() -> Vec<Rule> {
    [arithmetic(), scalars_out(), layout()].into_iter().flatten().collect()
}

/// Everything that finds composites in a forward program, whatever its spelling.
pub fn forward() -> Vec<Rule> {
    [arithmetic(), scalars_out(), layout(), recognise()].into_iter().flatten().collect()
}

/// Everything for forward and backward together.
pub fn both() -> Vec<Rule> {
    [arithmetic(), scalars_out(), layout(), recognise(), joint()].into_iter().flatten().collect()
}

/// Every rule.
pub fn all() -> Vec<Rule> {
    both().into_iter().chain(choices()).collect()
}
