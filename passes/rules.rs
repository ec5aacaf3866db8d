//! The equations. A name, what it does to the bits, a left side, a right side, and what must hold.
//!
//! A rule applies only where its right side has the type of its left, so that nothing is said here of what broadcasts to what.
//! There is no associativity or commutativity of `add` or `mul` here: the residual stream is one sum through the whole model, and such
//! rules are exponential in it. Layouts never appear: transposes fold into the labels of `contract` and `attention`.

use crate::rule::Legality::{Approximate, Exact, Reassociates};
use crate::rule::{Match, Rule, procedure, rule};
use crate::term::close;
use ir::{Attn, Dim, Dims, Ein, Labels, Lie, Op, num};

fn always(_: &mut Match) -> Option<()> {
    Some(())
}
fn when(holds: bool) -> Option<()> {
    holds.then_some(())
}
/// The number that `?v` is. A number is a scalar without axes: it broadcasts to anything.
fn number(m: &Match, v: &str) -> Option<f64> {
    m.number(v).filter(|_| m.ty(v).rank() == 0)
}
/// Whether `f32` holds a number with all its bits: neither 0, nor so small that bits are lost, nor beyond the largest.
fn normal(x: f64) -> bool {
    (x as f32).is_normal()
}
/// `?c` is one over the size of the last axis of `?x`.
fn is_mean(m: &Match, c: &str, x: &str) -> bool {
    let n = m.ty(x).dim(-1).value().unwrap_or(0) as f64;
    m.number(c).is_some_and(|c| close(c * n, 1.0))
}
fn is(m: &Match, v: &str, x: f64) -> bool {
    m.number(v).is_some_and(|n| close(n, x))
}
/// A computed constant, where `f32` holds it.
fn set_number(m: &mut Match, v: &str, x: f64) -> Option<()> {
    when(normal(x))?;
    m.set(v, num(x))
}
/// One constant for two, where `f32` holds all three: a product that leaves its range, or enters it again, is left to the program.
fn product(m: &mut Match) -> Option<()> {
    let (a, b) = (number(m, "a")?, number(m, "b")?);
    when(normal(a) && normal(b))?;
    set_number(m, "r", a * b)
}
fn reciprocal(m: &mut Match) -> Option<()> {
    let c = number(m, "c").filter(|c| normal(*c))?;
    set_number(m, "r", 1.0 / c)
}
fn negative(m: &mut Match) -> Option<()> {
    let c = number(m, "c")?;
    set_number(m, "r", -c)
}

/// One spelling for arithmetic: powers, quotients by numbers, negatives, roots.
#[rustfmt::skip]
pub fn arithmetic() -> Vec<Rule> { vec![
    // a processor's `pow` is within an ulp of a product, and not the same
    rule("square",          Approximate,  "(pow ?x 2.0)",                "(mul ?x ?x)",                 always),
    rule("cube",            Approximate,  "(pow ?x 3.0)",                "(mul (mul ?x ?x) ?x)",        always),
    rule("pow-half",        Approximate,  "(pow ?x 0.5)",                "(sqrt ?x)",                   always),
    rule("pow-minus-half",  Approximate,  "(pow ?x -0.5)",               "(rsqrt ?x)",                  always),
    rule("pow-minus-one",   Approximate,  "(pow ?x -1.0)",               "(recip ?x)",                  always),
    rule("one-over",        Reassociates, "(div 1.0 ?x)",                "(recip ?x)",                  always),
    rule("recip-sqrt",      Approximate,  "(recip (sqrt ?x))",           "(rsqrt ?x)",                  always),
    rule("div-sqrt",        Approximate,  "(div ?x (sqrt ?y))",          "(mul ?x (rsqrt ?y))",         always),
    rule("div-number",      Reassociates, "(div ?x ?c)",                 "(mul ?x const[?r])",          reciprocal),
    rule("mul-recip",       Reassociates, "(mul ?x (recip ?y))",         "(div ?x ?y)",                 always),
    rule("neg",             Exact,        "(neg ?x)",                    "(mul ?x -1.0)",               always),
    rule("add-minus",       Exact,        "(add ?x (mul ?y -1.0))",      "(sub ?x ?y)",                 always),
    rule("sub-minus",       Exact,        "(sub ?x (mul ?y -1.0))",      "(add ?x ?y)",                 always),
    rule("twice",           Exact,        "(add ?x ?x)",                 "(mul ?x 2.0)",                always),
    rule("fold-numbers",    Reassociates, "(mul ?a ?b)",                 "const[?r]",                   product),
    rule("fold",            Reassociates, "(mul (mul ?x ?a) ?b)",        "(mul ?x const[?r])",          product),
    rule("times-one",       Exact,        "(mul ?x 1.0)",                "?x",                          always),
    // −0 + 0 is 0, and −0 − 0 is −0
    rule("add-zero",        Reassociates, "(add ?x 0.0)",                "?x",                          always),
    rule("sub-zero",        Exact,        "(sub ?x 0.0)",                "?x",                          always),
    rule("unbroadcast-add", Exact,        "(add ?x (broadcast[?b] ?y))", "(add ?x ?y)",                 always),
    rule("unbroadcast-mul", Exact,        "(mul ?x (broadcast[?b] ?y))", "(mul ?x ?y)",                 always),
    rule("unbroadcast-sub", Exact,        "(sub ?x (broadcast[?b] ?y))", "(sub ?x ?y)",                 always),
    rule("unbroadcast-div", Exact,        "(div ?x (broadcast[?b] ?y))", "(div ?x ?y)",                 always),
]}

/// Where a number may move without leaving the range of `f32`: a sign anywhere, any number past what does no arithmetic and into a
/// mask, and out of a sum what makes its terms larger. A scale below one stays inside its sum, which might not hold the terms without it,
/// and any scale stays inside its product, whose other factor might be large or small enough to need it.
#[rustfmt::skip]
pub fn scalars_out() -> Vec<Rule> { vec![
    rule("mul-minus",        Exact,        "(mul (mul ?x -1.0) ?y)",          "(mul (mul ?x ?y) -1.0)",              always),
    rule("div-minus",        Exact,        "(div (mul ?x -1.0) ?y)",          "(mul (div ?x ?y) -1.0)",              always),
    rule("div-by-minus",     Exact,        "(div ?x (mul ?y -1.0))",          "(mul (div ?x ?y) -1.0)",              always),
    // a sum that starts at 0 is never −0
    rule("contract-minus",   Reassociates, "(contract[?e] (mul ?x -1.0) ?y)", "(mul (contract[?e] ?x ?y) -1.0)",     always),
    rule("transpose-number", Exact,        "(transpose[?r] (mul ?x ?c))",     "(mul (transpose[?r] ?x) ?c)",         |m| when(number(m, "c").is_some())),
    rule("slice-number",     Exact,        "(slice[?r] (mul ?x ?c))",         "(mul (slice[?r] ?x) ?c)",             |m| when(number(m, "c").is_some())),
    rule("sum-number",       Reassociates, "(sum[?r] (mul ?x ?c))",           "(mul (sum[?r] ?x) ?c)",               |m| when(number(m, "c").is_some_and(|c| normal(c) && (c as f32).abs() >= 1.0))),
    rule("mask-number",      Exact,        "(mul (select ?p ?x -inf) ?c)",    "(select ?p (mul ?x ?c) -inf)",        |m| when(number(m, "c").is_some_and(|c| normal(c) && c > 0.0))),
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

/// Transposes fold into contractions and attention, which absorb any layout; in which order they sum is up to the layout. That a
/// reshape, a repeat or a slice which keeps the type does nothing needs no condition: no rule changes a type.
#[rustfmt::skip]
pub fn layout() -> Vec<Rule> { vec![
    rule("contract-transpose",  Reassociates, "(contract[?e] (transpose[?p] ?x) ?y)",  "(contract[?f] ?x ?y)",         |m| { let (e, p) = (m.ein("e").clone(), order(m, "p")); m.set("f", Op::Contract(Ein::new(&untranspose(&e.a, &p), &e.b, &e.outs()))) }),
    rule("transpose-contract",  Reassociates, "(transpose[?p] (contract[?e] ?x ?y))",  "(contract[?f] ?x ?y)",         |m| { let (e, p) = (m.ein("e").clone(), order(m, "p")); m.set("f", Op::Contract(Ein::new(&e.a, &e.b, &p))) }),
    rule("attention-transpose", Reassociates, "(transpose[?p] (get[0] (attention[?e] ?q ?k ?v ?c ?..)))", "(get[0] (attention[?f] ?q ?k ?v ?c ?..))", |m| set_attn(m, |a, p| a.o = p.iter().map(|i| a.o[usize::from(*i)]).collect())),
    rule("attention-q-transpose", Reassociates, "(attention[?e] (transpose[?p] ?q) ?k ?v ?c ?..)", "(attention[?f] ?q ?k ?v ?c ?..)", |m| set_attn(m, |a, p| a.q = untranspose(&a.q, p))),
    rule("attention-k-transpose", Reassociates, "(attention[?e] ?q (transpose[?p] ?k) ?v ?c ?..)", "(attention[?f] ?q ?k ?v ?c ?..)", |m| set_attn(m, |a, p| a.k = untranspose(&a.k, p))),
    rule("attention-v-transpose", Reassociates, "(attention[?e] ?q ?k (transpose[?p] ?v) ?c ?..)", "(attention[?f] ?q ?k ?v ?c ?..)", |m| set_attn(m, |a, p| a.v = untranspose(&a.v, p))),
    rule("transpose-twice",     Exact, "(transpose[?p] (transpose[?q] ?x))",    "(transpose[?r] ?x)",           |m| { let (p, q) = (order(m, "p"), order(m, "q")); m.set("r", Op::Transpose(p.iter().map(|i| q[usize::from(*i)]).collect())) }),
    rule("transpose-nothing",   Exact, "(transpose[?p] ?x)",                    "?x",                           |m| when(order(m, "p").iter().enumerate().all(|(i, j)| i as u8 == *j))),
    rule("reshape-twice",       Exact, "(reshape[?p] (reshape[?q] ?x))",        "(reshape[?p] ?x)",             always),
    rule("reshape-nothing",     Exact, "(reshape[?p] ?x)",                      "?x",                           always),
    rule("broadcast-nothing",   Exact, "(broadcast[?p] ?x)",                    "?x",                           always),
    rule("slice-nothing",       Exact, "(slice[?p] ?x)",                        "?x",                           always),
]}

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
    let ((ka, kn, kd), (va, _, vd)) = (repeated(m, "r", "b", "s")?, repeated(m, "u", "w", "t")?);
    let mut a = m.attn("at").clone();
    let head = a.k[ka];
    // it is an axis of the queries, so not the softmax's; that keys and values repeat alike, their types say
    when(kn > 1 && head == a.v[va] && a.group == 1 && a.q.contains(&head))?;
    (a.group, a.head) = (kn, head);
    m.set("g", Op::Attention(a))?;
    m.set("kd", Op::Reshape(kd))?;
    m.set("vd", Op::Reshape(vd))
}

/// 2 √(2/π) and 0.044715, as GELU's tanh form has them.
fn gelu_numbers(m: &mut Match) -> Option<()> {
    when(is(m, "a", 0.044715) && is(m, "b", 2.0 * (2.0 / std::f64::consts::PI).sqrt()))
}
/// The slices are the two halves of `?x`; the type rule of `rope` has the rest.
fn is_rope(m: &mut Match) -> Option<()> {
    let (Op::Slice(la, l0, l1), Op::Slice(ha, h0, h1)) = (m.op("lo"), m.op("hi")) else { return None };
    let width = m.ty("x").dim(-1).value()?;
    when((*la, *ha, *l0, *h0) == (-1, -1, 0, *l1) && u64::from(*h1) == width && u64::from(*l1) * 2 == width)
}
/// The iota of `[?i]` counts the classes of `?x`.
fn one_hot(m: &mut Match) -> Option<()> {
    when(*m.op("i") == Op::Iota(-1, m.ty("x").dim(-1)))
}

/// Each composite and the arithmetic it stands for, in normal form.
#[rustfmt::skip]
pub fn recognise() -> Vec<Rule> { vec![
    rule("softmax",          Reassociates, "(div (exp ?x) (sum[-1] (exp ?x)))",                     "(softmax ?x)",              always),
    rule("softmax-shift",    Reassociates, "(softmax (sub ?x ?m))",                                 "(softmax ?x)",              |m| when(m.ty("m").dim(-1) == Dim::ONE)),
    rule("softmax-lse",      Reassociates, "(exp (sub ?x (logsumexp ?x)))",                         "(softmax ?x)",              always),
    rule("logsumexp",        Reassociates, "(log (sum[-1] (exp ?x)))",                              "(logsumexp ?x)",            always),
    rule("logsumexp-shift",  Reassociates, "(add (logsumexp (sub ?x ?m)) ?m)",                      "(logsumexp ?x)",            always),
    rule("log-softmax",      Reassociates, "(log (softmax ?x))",                                    "(sub (sub ?x (max[-1] ?x)) (logsumexp (sub ?x (max[-1] ?x))))", always),
    // what is common to a row taken off, or not; ignored rows selected, or multiplied by 0
    rule("cross-entropy",    Reassociates, "(mul (sub (logsumexp ?x) (sum[-1] (select (eq iota[?i] ?l) ?x 0.0))) (cast[f32] (le 0 ?l)))", "(cross_entropy ?x ?l)", one_hot),
    rule("cross-entropy-where", Reassociates, "(select (le 0 ?l) (sub (logsumexp ?x) (sum[-1] (select (eq iota[?i] ?l) ?x 0.0))) 0.0)", "(cross_entropy ?x ?l)", one_hot),
    rule("cross-entropy-less", Reassociates, "(mul (sub (logsumexp (sub ?x ?m)) (sub (sum[-1] (select (eq iota[?i] ?l) ?x 0.0)) ?m)) (cast[f32] (le 0 ?l)))", "(cross_entropy ?x ?l)", one_hot),
    rule("cross-entropy-where-less", Reassociates, "(select (le 0 ?l) (sub (logsumexp (sub ?x ?m)) (sub (sum[-1] (select (eq iota[?i] ?l) ?x 0.0)) ?m)) 0.0)", "(cross_entropy ?x ?l)", one_hot),
    rule("cross-entropy-rows", Exact,      "(cross_entropy (select (le 0 ?l) ?x ?y) ?l)",           "(cross_entropy ?x ?l)",     always),
    rule("cross-entropy-ignored", Exact,   "(select (le 0 ?l) (cross_entropy ?x ?l) 0.0)",          "(cross_entropy ?x ?l)",     always),
    rule("cross-entropy-counted", Exact,   "(mul (cross_entropy ?x ?l) (cast[f32] (le 0 ?l)))",     "(cross_entropy ?x ?l)",     always),

    rule("rms_norm",         Reassociates, "(mul ?x (rsqrt (add (mul (sum[-1] (mul ?x ?x)) ?n) ?eps)))",  "(rms_norm ?x ?eps)",   |m| when(is_mean(m, "n", "x"))),
    // a gain first: no row that is divided by its own root mean square leaves the range, as |x̂| ≤ √n
    rule("rms_norm-gain",    Reassociates, "(mul (mul ?x ?g) (rsqrt (add (mul (sum[-1] (mul ?x ?x)) ?n) ?eps)))", "(mul (rms_norm ?x ?eps) ?g)", |m| when(is_mean(m, "n", "x"))),
    rule("rms_norm-gain-inside", Reassociates, "(mul ?x (mul ?g (rsqrt (add (mul (sum[-1] (mul ?x ?x)) ?n) ?eps))))", "(mul (rms_norm ?x ?eps) ?g)", |m| when(is_mean(m, "n", "x"))),
    rule("layer_norm",       Reassociates, "(rms_norm (sub ?x (mul (sum[-1] ?x) ?n)) ?eps)",              "(layer_norm ?x ?eps)", |m| when(is_mean(m, "n", "x"))),

    rule("sigmoid",          Reassociates, "(recip (add (exp (mul ?x ?c)) 1.0))",                   "(sigmoid (mul ?x const[?r]))", negative),
    rule("sigmoid-quotient", Reassociates, "(div ?y (add (exp (mul ?x ?c)) 1.0))",                  "(mul ?y (sigmoid (mul ?x const[?r])))", negative),
    rule("sigmoid-sides",    Reassociates, "(select (eq ?x (abs ?x)) (recip (add (exp (select (eq ?x (abs ?x)) (mul ?x -1.0) ?x)) 1.0)) (div (exp (select (eq ?x (abs ?x)) (mul ?x -1.0) ?x)) (add (exp (select (eq ?x (abs ?x)) (mul ?x -1.0) ?x)) 1.0)))", "(sigmoid ?x)", always),
    rule("silu",             Exact,        "(mul ?x (sigmoid ?x))",                                 "(silu ?x)",                 always),
    rule("swiglu",           Exact,        "(mul (silu ?a) ?b)",                                    "(swiglu ?a ?b)",            always),
    // ½ (1 + tanh u) = σ(2 u), whichever factor the ½ stands beside: 1 + tanh u is 0 or between 2⁻²⁴ and 2
    rule("half-tanh",        Approximate,  "(mul (add (tanh ?u) 1.0) 0.5)",                         "(sigmoid (mul ?u 2.0))",    always),
    rule("half-tanh-before", Approximate,  "(mul (mul ?x 0.5) (add (tanh ?u) 1.0))",                "(mul ?x (sigmoid (mul ?u 2.0)))", always),
    rule("half-tanh-after",  Approximate,  "(mul (mul ?x (add (tanh ?u) 1.0)) 0.5)",                "(mul ?x (sigmoid (mul ?u 2.0)))", always),
    rule("gelu",             Reassociates, "(mul ?x (sigmoid (mul (add ?x (mul (mul (mul ?x ?x) ?x) ?a)) ?b)))",         "(gelu ?x)", gelu_numbers),
    rule("gelu-factored",    Reassociates, "(mul ?x (sigmoid (mul (mul ?x (add (mul (mul ?x ?x) ?a) 1.0)) ?b)))",        "(gelu ?x)", gelu_numbers),
    rule("rope",             Reassociates, "(add (mul ?x (concat[-1] ?cos ?cos)) (mul (concat[-1] (mul (slice[?hi] ?x) -1.0) (slice[?lo] ?x)) (concat[-1] ?sin ?sin)))", "(rope ?x ?cos ?sin)", is_rope),
    rule("rope-halves",      Reassociates, "(concat[-1] (sub (mul (slice[?lo] ?x) ?cos) (mul (slice[?hi] ?x) ?sin)) (add (mul (slice[?hi] ?x) ?cos) (mul (slice[?lo] ?x) ?sin)))", "(rope ?x ?cos ?sin)", is_rope),

    // over the reals: ∞ + −∞ and NaN + −∞ are NaN
    rule("mask-add",         Reassociates, "(add ?s (select ?p 0.0 -inf))",                         "(select ?p ?s -inf)",       always),
    rule("mask-not",         Exact,        "(select (lt ?a ?b) ?x ?y)",                             "(select (le ?b ?a) ?y ?x)", |m| when(m.ty("a").dtype == ir::DType::I32)),

    // of all experts' products those of each row's own
    rule("grouped",          Reassociates, "(sum[?s] (select (eq iota[?i] ?n) (contract[?e] ?a ?w) 0.0))", "(reshape[?y] (grouped[?g] (reshape[?x] ?a) ?w (reshape[?o] ?n)))", experts),
    rule("grouped-times",    Reassociates, "(sum[?s] (mul (contract[?e] ?a ?w) (cast[f32] (eq iota[?i] ?n))))", "(reshape[?y] (grouped[?g] (reshape[?x] ?a) ?w (reshape[?o] ?n)))", experts),

    // whatever stands between the softmax and its product: see score.rs
    procedure("attention",     Reassociates, "(contract[?pv] ?p ?v)", "(get[0] (attention[?at] ?q ?k ?v const[?c] ?..))", crate::score::attention),
    rule("attention-less",     Reassociates, "(contract[?e] (sub ?a ?b) ?v)", "(sub (contract[?e] ?a ?v) (contract[?e] ?b ?v))", crate::score::both_attend),
    rule("attention-factor",   Reassociates, "(contract[?e] (mul ?p ?c) ?v)", "(mul (contract[?e] ?p ?v) (transpose[?t] (reshape[?r] ?c)))", crate::score::factor_of_rows),
    rule("attention-grouped",  Reassociates, "(attention[?at] ?q (reshape[?r] (broadcast[?b] (reshape[?s] ?k))) (reshape[?u] (broadcast[?w] (reshape[?t] ?v))) ?c ?..)", "(attention[?g] ?q (reshape[?kd] ?k) (reshape[?vd] ?v) ?c ?..)", grouped),
]}

/// Σₑ [e = group] (a W)ₑ by labels: a's rows, whatever axes they are along, meet a stack of matrices along one axis of the product, which
/// is summed where it is the row's group.
fn experts(m: &mut Match) -> Option<()> {
    let (ein, a, w, group) = (m.ein("e").clone(), m.ty("a").clone(), m.ty("w").clone(), m.ty("n").clone());
    let (Op::Reduce(_, axes), Op::Iota(along, groups)) = (m.op("s"), m.op("i")) else { return None };
    when(axes[..] == [*along] && *groups == w.dims.first().copied()?)?;
    let rank = usize::from(ein.out);
    let expert = (rank as i64 + i64::from(*along)) as u8;
    let ([contracted], [rows @ .., last]) = (&ein.contracted()[..], &ein.a[..]) else { return None };
    // rows and columns in their order, the experts' axis anywhere between
    let [own @ .., column] = &ein.outs().into_iter().filter(|l| *l != expert).collect::<Labels>()[..] else { return None };
    when(last == contracted && own == rows && !ein.a.contains(&expert))?;
    let lie =
        Lie::ALL.iter().find(|lie| ein.b[..] == if **lie == Lie::Plain { [expert, *contracted, *column] } else { [expert, *column, *contracted] })?;
    // a row has one group
    let of_axis = |l: u8| rows.iter().position(|r| *r == l).map_or(Dim::ONE, |at| a.dims[at]);
    when(group.dims.iter().copied().eq((0..ein.out).map(of_axis)))?;
    let all = a.dims[..rows.len()].iter().try_fold(Dim::ONE, |n, d| n.times(*d))?;
    let result = ein.outs().iter().map(|l| if l == column { w.dim(if *lie == Lie::Plain { -1 } else { -2 }) } else { of_axis(*l) }).collect();
    m.set("g", Op::Grouped(*lie))?;
    m.set("x", Op::Reshape(Dims::from_slice(&[all, a.dim(-1)])))?;
    m.set("o", Op::Reshape(Dims::from_slice(&[all])))?;
    m.set("y", Op::Reshape(result))
}

/// Behind `?x` there is room for `?y` and what is padded behind that. As both are as long in the end, it is the same axis, and `?y`
/// begins where `?x` ends.
fn pads(m: &mut Match) -> Option<()> {
    let (Op::Pad(ax, x0, x1), Op::Pad(_, _, y1)) = (m.op("a"), m.op("b")) else { return None };
    let width = u32::try_from(m.ty("y").dim(*ax).value()?).ok()?;
    when(y1.checked_add(width)? == *x1)?;
    let (pad, concat) = (Op::Pad(*ax, *x0, *y1), Op::Concat(*ax));
    m.set("p", pad)?;
    m.set("c", concat)
}

/// What reverse mode leaves to do.
#[rustfmt::skip]
pub fn joint() -> Vec<Rule> { vec![
    rule("pads-to-concat",   Reassociates, "(add (pad[?a] ?x) (pad[?b] ?y))",              "(pad[?p] (concat[?c] ?x ?y))",  pads),
    rule("pad-nothing",      Exact,        "(pad[?a] ?x)",                                 "?x",                            always),
    rule("scatter-into",     Reassociates, "(add ?x (scatter_add (broadcast[?b] 0.0) ?i ?u))", "(scatter_add ?x ?i ?u)",    always),
    rule("softmax-bwd",      Exact,        "(mul ?p (sub ?g (sum[-1] (mul ?p ?g))))",      "(softmax_bwd ?p ?g)",           always),
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

/// `?x` meets two matrices along the same axes, of which the second lies otherwise and is a product, which can be made to lie as the first.
fn turned(m: &mut Match) -> Option<()> {
    let (e, f, i) = (m.ein("e").clone(), m.ein("f").clone(), m.ein("i").clone());
    when(e.a == f.a && e.out == f.out && e.b != f.b)?;
    let order: Labels = e.b.iter().map(|l| f.b.iter().position(|k| k == l).map(|at| at as u8)).collect::<Option<_>>()?;
    m.set("j", Op::Contract(Ein::new(&i.a, &i.b, &order)))
}

/// Choices: more than one form is worth having, and shapes decide. Two ways on purpose, so for saturation alone.
#[rustfmt::skip]
pub fn choices() -> Vec<Rule> { vec![
    rule("associate",        Reassociates, "(contract[?o] (contract[?i] ?a ?b) ?c)",       "(contract[?p] ?a (contract[?j] ?b ?c))", |m| { let (j, p) = associate(m.ein("o"), m.ein("i"))?; m.set("j", Op::Contract(j))?; m.set("p", Op::Contract(p)) }),
    rule("factor",           Reassociates, "(add (contract[?e] ?x ?u) (contract[?e] ?x ?v))", "(contract[?e] ?x (add ?u ?v))",       always),
    // the same where what is added is a product that lies otherwise: a low-rank one, whose order nobody wrote
    rule("factor-turned",    Reassociates, "(add (contract[?e] ?x ?u) (contract[?f] ?x (contract[?i] ?a ?b)))", "(contract[?e] ?x (add ?u (contract[?j] ?a ?b)))", turned),
    // only where the product inside can then be taken in another order: over any sum, it would spread along the residual stream
    rule("distribute",       Reassociates, "(contract[?e] ?x (add ?u (contract[?i] ?a ?b)))", "(add (contract[?e] ?x ?u) (contract[?e] ?x (contract[?i] ?a ?b)))", always),
]}

/// One spelling and one layout, nothing recognised yet: one way, so no e-graph is needed.
pub fn normal_form() -> Vec<Rule> {
    [arithmetic(), scalars_out(), layout()].into_iter().flatten().collect()
}

/// Everything that finds composites in a forward program, whatever its spelling.
pub fn forward() -> Vec<Rule> {
    normal_form().into_iter().chain(recognise()).collect()
}

/// Everything for forward and backward together.
pub fn both() -> Vec<Rule> {
    forward().into_iter().chain(joint()).collect()
}

/// Every rule.
pub fn all() -> Vec<Rule> {
    both().into_iter().chain(choices()).collect()
}
