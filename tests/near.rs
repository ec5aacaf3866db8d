//! Programs that almost match a rule: each violates one of its conditions, and the rule must leave it alone.

use crate::common::{Random, difference, environment};
use crate::rules::{CORPUS, Spelling, attention, corpus};
use ir::{Bin, Builder, DType, Func, Graph, NodeId, Op, Type, Un, eval};
use passes::{Opt, Rule, Terms, optimize, rules};

/// A rule, the types of the operands, a term that it rewrites, and terms that it must not.
type Near = (&'static str, &'static str, &'static str, &'static [&'static str]);

#[rustfmt::skip]
const NEAR: &[Near] = &[
    ("square",         "x:f32[3]", "(pow x 2.0)", &["(pow x 2.5)", "(pow 2.0 x)", "(pow x 1.9999999)", "(pow x -2.0)"]),
    ("cube",           "x:f32[3]", "(pow x 3.0)", &["(pow x 2.0)", "(pow 3.0 x)", "(pow x -3.0)"]),
    ("pow-half",       "x:f32[3]", "(pow x 0.5)", &["(pow x 0.25)", "(pow 0.5 x)", "(pow x -0.5)"]),
    ("pow-minus-half", "x:f32[3]", "(pow x -0.5)", &["(pow x 0.5)", "(pow -0.5 x)", "(pow x -1.5)"]),
    ("pow-minus-one",  "x:f32[3]", "(pow x -1.0)", &["(pow x 1.0)", "(pow -1.0 x)", "(pow x -2.0)"]),
    ("one-over",       "x:f32[3]", "(div 1.0 x)", &["(div x 1.0)", "(div 2.0 x)", "(div -1.0 x)"]),
    ("recip-sqrt",     "x:f32[3]", "(recip (sqrt x))", &["(recip (rsqrt x))", "(recip (exp x))"]),
    ("div-sqrt",       "x:f32[3] y:f32[3]", "(div x (sqrt y))", &["(div (sqrt y) x)", "(div x (rsqrt y))"]),
    ("div-number",     "x:f32[3] s:f32[] v:f32[3]", "(div x 4.0)", &["(div 4.0 x)", "(div x s)", "(div x v)", "(div x 0.0)", "(div x inf)", "(div x 3e38)", "(div x 1e-40)", "(div x 5e-39)", "(div x 1e39)"]),
    ("mul-recip",      "x:f32[3] y:f32[3]", "(mul x (recip y))", &["(mul x (rsqrt y))", "(mul x (div x y))"]),
    ("neg",            "x:f32[3]", "(neg x)", &[]),
    ("add-minus",      "x:f32[3] y:f32[3]", "(add x (mul y -1.0))", &["(add x (mul y -2.0))", "(add x (mul y 1.0))", "(add x (div y -1.0))"]),
    ("sub-minus",      "x:f32[3] y:f32[3]", "(sub x (mul y -1.0))", &["(sub (mul y -1.0) x)", "(sub x (mul y 1.0))"]),
    ("twice",          "x:f32[3] y:f32[3] n:i32[3]", "(add x x)", &["(add x y)", "(add n n)"]),
    ("fold-numbers",   "s:f32[]", "(mul 2.0 3.0)", &["(mul 1e25 1e25)", "(mul 1e-25 1e-25)", "(mul 1e-20 1e-20)", "(mul 1e-40 1e30)", "(mul 1e30 1e-40)", "(mul 1e39 1e-10)", "(mul 2 3)", "(mul 2.0 s)", "(mul inf 2.0)", "(mul NaN 2.0)"]),
    ("fold",           "x:f32[3] s:f32[] n:i32[3]", "(mul (mul x 2.0) 3.0)", &["(mul (mul x 1e25) 1e25)", "(mul (mul x 1e-25) 1e-25)", "(mul (mul x 1e-20) 1e-20)", "(mul (mul x 1e-40) 1e30)", "(mul (mul x 1e30) 1e-40)", "(mul (mul x 1e39) 1e-10)", "(mul (mul x 1e-10) 1e39)", "(mul (mul x 2.0) s)", "(mul (mul x s) 2.0)", "(mul (mul n 2) 3)", "(mul (add x 2.0) 3.0)"]),
    ("times-one",      "x:f32[3] n:i32[3]", "(mul x 1.0)", &["(mul x 1.0000001)", "(mul x -1.0)", "(mul n 1)"]),
    ("add-zero",       "x:f32[3]", "(add x 0.0)", &["(add x 1e-45)", "(add x 1.0)"]),
    ("sub-zero",       "x:f32[3]", "(sub x 0.0)", &["(sub 0.0 x)", "(sub x 1e-45)"]),
    ("unbroadcast-add", "x:f32[2,3] y:f32[3] r:f32[1,3]", "(add x (broadcast[2,3] y))", &["(add y (broadcast[2,3] r))", "(add r (broadcast[2,3] y))"]),
    ("unbroadcast-mul", "x:f32[2,3] y:f32[3] r:f32[1,3]", "(mul x (broadcast[2,3] y))", &["(mul y (broadcast[2,3] r))", "(mul r (broadcast[2,3] y))"]),
    ("unbroadcast-sub", "x:f32[2,3] y:f32[3] r:f32[1,3]", "(sub x (broadcast[2,3] y))", &["(sub y (broadcast[2,3] r))", "(sub (broadcast[2,3] y) x)"]),
    ("unbroadcast-div", "x:f32[2,3] y:f32[3] r:f32[1,3]", "(div x (broadcast[2,3] y))", &["(div y (broadcast[2,3] r))", "(div (broadcast[2,3] y) x)"]),

    ("grouped",        "a:f32[4,3] w:f32[2,3,5] n:i32[4,1,1] m:i32[4,2,1] v:f32[4,2,3,5]", "(sum[-2] (select (eq iota[-2,2] n) (contract[ad,bdc->abc] a w) 0.0))",
        &["(sum[-1] (select (eq iota[-2,2] n) (contract[ad,bdc->abc] a w) 0.0))", "(sum[-2] (select (eq iota[-2,2] n) (contract[ad,bdc->abc] a w) 1.0))", "(sum[-2] (select (eq iota[-2,2] m) (contract[ad,bdc->abc] a w) 0.0))", "(sum[-2] (select (le iota[-2,2] n) (contract[ad,bdc->abc] a w) 0.0))", "(sum[-3] (select (eq iota[-2,2] n) (contract[ad,bdc->abc] a w) 0.0))", "(sum[-2] (select (eq iota[-2,2] n) (contract[ad,abdc->abc] a v) 0.0))"]),
    ("grouped-times",  "a:f32[4,3] w:f32[2,3,5] n:i32[4,1,1] m:i32[4,2,1]", "(sum[-2] (mul (contract[ad,bdc->abc] a w) (cast[f32] (eq iota[-2,2] n))))",
        &["(sum[-1] (mul (contract[ad,bdc->abc] a w) (cast[f32] (eq iota[-2,2] n))))", "(sum[-2] (mul (contract[ad,bdc->abc] a w) (cast[f32] (eq iota[-2,2] m))))", "(sum[-2] (mul (contract[ad,bdc->abc] a w) (cast[f32] (lt iota[-2,2] n))))"]),

    ("mul-minus",        "x:f32[3] y:f32[3]", "(mul (mul x -1.0) y)", &["(mul (mul x -2.0) y)", "(mul (add x -1.0) y)", "(mul (mul x 0.5) y)"]),
    ("div-minus",        "x:f32[3] y:f32[3]", "(div (mul x -1.0) y)", &["(div (mul x 0.5) y)", "(div (mul x -2.0) y)"]),
    ("div-by-minus",     "x:f32[3] y:f32[3]", "(div x (mul y -1.0))", &["(div x (mul y 0.5))", "(div x (mul y -2.0))"]),
    ("contract-minus",   "x:f32[2,3] y:f32[3,2]", "(contract[ac,cb->ab] (mul x -1.0) y)", &["(contract[ac,cb->ab] (mul x 0.5) y)", "(contract[ac,cb->ab] (mul x 2.0) y)"]),
    ("transpose-number", "x:f32[3,3] v:f32[3] s:f32[]", "(transpose[1,0] (mul x 2.0))", &["(transpose[1,0] (mul x v))", "(transpose[1,0] (mul x s))", "(transpose[1,0] (add x 2.0))"]),
    ("slice-number",     "x:f32[3,3] v:f32[3] s:f32[]", "(slice[-1,0,2] (mul x 2.0))", &["(slice[-1,0,2] (mul x v))", "(slice[-1,0,2] (mul x s))", "(slice[-1,0,2] (add x 2.0))"]),
    ("sum-number",       "x:f32[3,3] v:f32[3] s:f32[] r:f32[3,1]", "(sum[-1] (mul x 2.0))", &["(sum[-1] (mul x 0.25))", "(sum[-1] (mul x -0.25))", "(sum[-1] (mul x 1e39))", "(sum[-1] (mul x v))", "(sum[-1] (mul x s))", "(sum[-1] (mul x r))", "(sum[-1] (add x 2.0))"]),
    ("mask-number",      "p:bool[3] x:f32[3] s:f32[]", "(mul (select p x -inf) 2.0)", &["(mul (select p x -inf) -2.0)", "(mul (select p x -inf) 0.0)", "(mul (select p x -inf) 1e-46)", "(mul (select p x -inf) s)", "(mul (select p x -1e30) 2.0)", "(mul (select p x inf) 2.0)", "(mul (select p -inf x) 2.0)"]),

    ("contract-transpose",  "x:f32[3,4,2] y:f32[4,5]", "(contract[abc,ad->bcd] (transpose[1,2,0] x) y)", &[]),
    ("transpose-contract",  "x:f32[2,3] y:f32[3,4,5]", "(transpose[1,2,0] (contract[ad,dbc->abc] x y))", &[]),
    ("attention-transpose",   "q:f32[2,4,3,5] k:f32[2,4,6,5] v:f32[2,4,6,7]", "(transpose[2,0,1,3] (get[0] (attention[abce,abde,abdf->abcf|4] q k v 0.5)))", &["(transpose[2,0,1] (get[1] (attention[abce,abde,abdf->abcf|4] q k v 0.5)))"]),
    ("attention-q-transpose", "q:f32[4,3,2,5] k:f32[2,4,6,5] v:f32[2,4,6,7]", "(attention[abce,abde,abdf->abcf|4] (transpose[2,0,1,3] q) k v 0.5)", &[]),
    ("attention-k-transpose", "q:f32[2,4,3,5] k:f32[4,6,2,5] v:f32[2,4,6,7]", "(attention[abce,abde,abdf->abcf|4] q (transpose[2,0,1,3] k) v 0.5)", &[]),
    ("attention-v-transpose", "q:f32[2,4,3,5] k:f32[2,4,6,5] v:f32[4,6,2,7]", "(attention[abce,abde,abdf->abcf|4] q k (transpose[2,0,1,3] v) 0.5)", &[]),
    ("transpose-twice",   "x:f32[2,3,4]", "(transpose[1,2,0] (transpose[2,0,1] x))", &[]),
    ("transpose-nothing", "x:f32[3,3]", "(transpose[0,1] x)", &["(transpose[1,0] x)"]),
    ("reshape-twice",     "x:f32[2,3]", "(reshape[6] (reshape[3,2] x))", &["(reshape[6] (transpose[1,0] x))"]),
    ("reshape-nothing",   "x:f32[2,3]", "(reshape[2,3] x)", &["(reshape[3,2] x)", "(reshape[1,2,3] x)"]),
    ("broadcast-nothing", "x:f32[2,3]", "(broadcast[2,3] x)", &["(broadcast[1,2,3] x)", "(broadcast[4,2,3] x)"]),
    ("slice-nothing",     "x:f32[2,3]", "(slice[-1,0,3] x)", &["(slice[-1,0,2] x)", "(slice[-1,1,3] x)", "(slice[-2,0,1] x)"]),

    ("softmax",         "x:f32[3,3] y:f32[3,3]", "(div (exp x) (sum[-1] (exp x)))", &["(div (exp x) (sum[-2] (exp x)))", "(div (exp x) (sum[-1,-2] (exp x)))", "(div (exp x) (sum[-1] (exp y)))", "(div (exp x) (max[-1] (exp x)))", "(div (sum[-1] (exp x)) (exp x))", "(div (exp x) (sum[-1] x))"]),
    ("softmax-shift",   "x:f32[3,3] m:f32[3,1] c:f32[1,3] y:f32[3,3] z:f32[2,1,1]", "(softmax (sub x m))", &["(softmax (sub x c))", "(softmax (sub x y))", "(softmax (sub m x))", "(softmax (add x m))", "(softmax (sub c m))", "(softmax (sub x z))"]),
    ("softmax-lse",     "x:f32[3,3] y:f32[3,3]", "(exp (sub x (logsumexp x)))", &["(exp (sub x (logsumexp y)))", "(exp (sub (logsumexp x) x))", "(exp (add x (logsumexp x)))"]),
    ("logsumexp",       "x:f32[3,3]", "(log (sum[-1] (exp x)))", &["(log (sum[-2] (exp x)))", "(log (sum[-1] x))", "(log (max[-1] (exp x)))"]),
    ("logsumexp-shift", "x:f32[3,3] m:f32[3,1] n:f32[3,1] y:f32[3,3] c:f32[1,3] z:f32[2,1,1]", "(add (logsumexp (sub x m)) m)", &["(add (logsumexp (sub x m)) n)", "(add (logsumexp (sub m x)) m)", "(sub (logsumexp (sub x m)) m)", "(add (logsumexp (sub x y)) y)", "(add (logsumexp (sub x c)) c)", "(add (logsumexp (sub x z)) z)"]),
    ("log-softmax",     "x:f32[3,3]", "(log (softmax x))", &[]),
    ("cross-entropy-where", "x:f32[3,4] y:f32[3,4] l:i32[3,1] k:i32[3,1] m:f32[3,1] n:f32[3,1]", "(select (le 0 l) (sub (logsumexp x) (sum[-1] (select (eq iota[-1,4] l) x 0.0))) 0.0)", &[
        "(select (le 1 l) (sub (logsumexp x) (sum[-1] (select (eq iota[-1,4] l) x 0.0))) 0.0)", "(select (le l 0) (sub (logsumexp x) (sum[-1] (select (eq iota[-1,4] l) x 0.0))) 0.0)", "(select (lt 0 l) (sub (logsumexp x) (sum[-1] (select (eq iota[-1,4] l) x 0.0))) 0.0)", "(select (le 0 k) (sub (logsumexp x) (sum[-1] (select (eq iota[-1,4] l) x 0.0))) 0.0)", "(select (le 0 l) (sub (logsumexp y) (sum[-1] (select (eq iota[-1,4] l) x 0.0))) 0.0)", "(select (le 0 l) (sub (logsumexp x) (sum[-1] (select (eq iota[-1,4] l) x 0.0)))1.0)", "(select (le 0 l) (sub (logsumexp x) (sum[-1] (select (eq iota[-1,1] l) x 0.0))) 0.0)", "(select (le 0 l) (sub (logsumexp x) (max[-1] (select (eq iota[-1,4] l) x 0.0))) 0.0)", "(select (le 0 l) (add (logsumexp x) (sum[-1] (select (eq iota[-1,4] l) x 0.0))) 0.0)"]),
    ("cross-entropy-less", "x:f32[3,4] y:f32[3,4] l:i32[3,1] k:i32[3,1] m:f32[3,1] n:f32[3,1]", "(mul (sub (logsumexp (sub x m)) (sub (sum[-1] (select (eq iota[-1,4] l) x 0.0)) m)) (cast[f32] (le 0 l)))", &[
        "(mul (sub (logsumexp (sub x m)) (sub (sum[-1] (select (eq iota[-1,4] l) x 0.0)) m)) (cast[f32] (le 1 l)))", "(mul (sub (logsumexp (sub x m)) (sub (sum[-1] (select (eq iota[-1,4] l) x 0.0)) m)) (cast[f32] (le 0 k)))", "(mul (sub (logsumexp (sub x n)) (sub (sum[-1] (select (eq iota[-1,4] l) x 0.0)) m)) (cast[f32] (le 0 l)))", "(mul (sub (logsumexp (sub m x)) (sub (sum[-1] (select (eq iota[-1,4] l) x 0.0)) m)) (cast[f32] (le 0 l)))", "(mul (sub (logsumexp (sub x m)) (sub (sum[-1] (select (eq iota[-1,4] l) x 0.0)) n)) (cast[f32] (le 0 l)))", "(mul (sub (logsumexp (sub x m)) (sub (sum[-1] (select (eq iota[-1,1] l) x 0.0)) m)) (cast[f32] (le 0 l)))", "(add (sub (logsumexp (sub x m)) (sub (sum[-1] (select (eq iota[-1,4] l) x 0.0)) m)) (cast[f32] (le 0 l)))"]),
    ("cross-entropy-where-less", "x:f32[3,4] y:f32[3,4] l:i32[3,1] k:i32[3,1] m:f32[3,1] n:f32[3,1]", "(select (le 0 l) (sub (logsumexp (sub x m)) (sub (sum[-1] (select (eq iota[-1,4] l) x 0.0)) m)) 0.0)", &[
        "(select (le 1 l) (sub (logsumexp (sub x m)) (sub (sum[-1] (select (eq iota[-1,4] l) x 0.0)) m)) 0.0)", "(select (le 0 k) (sub (logsumexp (sub x m)) (sub (sum[-1] (select (eq iota[-1,4] l) x 0.0)) m)) 0.0)", "(select (le 0 l) (sub (logsumexp (sub x n)) (sub (sum[-1] (select (eq iota[-1,4] l) x 0.0)) m)) 0.0)", "(select (le 0 l) (sub (logsumexp (sub y m)) (sub (sum[-1] (select (eq iota[-1,4] l) x 0.0)) m)) 0.0)", "(select (le 0 l) (sub (logsumexp (sub x m)) (sub (sum[-1] (select (eq iota[-1,4] l) x 0.0)) n)) 0.0)", "(select (le 0 l) (sub (logsumexp (sub x m)) (sub (sum[-1] (select (eq iota[-2,3] l) x 0.0)) m)) 0.0)", "(select (le 0 l) (sub (logsumexp (sub x m)) (sub (sum[-1] (select (eq iota[-1,4] l) x 0.0)) m))0.5)"]),
    ("cross-entropy-rows", "x:f32[3,4] y:f32[3,4] l:i32[3,1] k:i32[3,1] m:f32[3,1] n:f32[3,1]", "(cross_entropy (select (le 0 l) x y) l)", &[
        "(cross_entropy (select (le 0 k) x y) l)", "(cross_entropy (select (le 1 l) x y) l)", "(cross_entropy (select (lt 0 l) x y) l)", "(cross_entropy (select (le l 0) x y) l)"]),
    ("cross-entropy-ignored", "x:f32[3,4] y:f32[3,4] l:i32[3,1] k:i32[3,1] m:f32[3,1] n:f32[3,1]", "(select (le 0 l) (cross_entropy x l) 0.0)", &[
        "(select (le 0 k) (cross_entropy x l) 0.0)", "(select (le 1 l) (cross_entropy x l) 0.0)", "(select (le 0 l) (cross_entropy x l) 1.0)", "(select (le 0 l) 0.0 (cross_entropy x l))"]),
    ("cross-entropy-counted", "x:f32[3,4] y:f32[3,4] l:i32[3,1] k:i32[3,1] m:f32[3,1] n:f32[3,1]", "(mul (cross_entropy x l) (cast[f32] (le 0 l)))", &[
        "(mul (cross_entropy x l) (cast[f32] (le 0 k)))", "(mul (cross_entropy x l) (cast[f32] (le 1 l)))", "(add (cross_entropy x l) (cast[f32] (le 0 l)))", "(mul (cross_entropy x l) (cast[f32] (lt 0 l)))"]),
    ("rms_norm",        "x:f32[3,4] y:f32[3,4] e:f32[3,1] v:f32[4] z:f32[1,1,1] s:f32[]", "(mul x (rsqrt (add (mul (sum[-1] (mul x x)) 0.25) s)))", &[
        "(mul x (rsqrt (add (mul (sum[-1] (mul x x)) 0.2) s)))", "(mul x (rsqrt (add (mul (sum[-1] (mul x x)) 0.2500001) s)))", "(mul y (rsqrt (add (mul (sum[-1] (mul x x)) 0.25) s)))",
        "(mul x (rsqrt (add (mul (sum[-1] (mul x y)) 0.25) s)))", "(mul x (rsqrt (add (mul (sum[-2] (mul x x)) 0.25) s)))", "(mul x (rsqrt (add (mul (sum[-1] (mul x x)) 0.25) e)))",
        "(mul x (rsqrt (add (mul (sum[-1] (mul x x)) 0.25) v)))", "(mul x (rsqrt (add (mul (sum[-1] (mul x x)) 0.25) z)))", "(mul x (rsqrt (mul (add (sum[-1] (mul x x)) s) 0.25)))",
        "(mul x (rsqrt (sub (mul (sum[-1] (mul x x)) 0.25) s)))", "(mul x (sqrt (add (mul (sum[-1] (mul x x)) 0.25) s)))", "(mul x (rsqrt (add (mul (max[-1] (mul x x)) 0.25) s)))", "(mul x (rsqrt (add (mul (sum[-1] (mul x x)) s) s)))"]),
    ("rms_norm-gain",   "x:f32[3,4] g:f32[4] y:f32[3,4] s:f32[]", "(mul (mul x g) (rsqrt (add (mul (sum[-1] (mul x x)) 0.25) s)))", &["(mul (mul y g) (rsqrt (add (mul (sum[-1] (mul x x)) 0.25) s)))", "(mul (mul x g) (rsqrt (add (mul (sum[-1] (mul x x)) 0.5) s)))", "(mul (add x g) (rsqrt (add (mul (sum[-1] (mul x x)) 0.25) s)))", "(mul (mul x g) (rsqrt (add (mul (sum[-2] (mul x x)) 0.25) s)))"]),
    ("rms_norm-gain-inside", "x:f32[3,4] g:f32[4] y:f32[3,4] s:f32[]", "(mul x (mul g (rsqrt (add (mul (sum[-1] (mul x x)) 0.25) s))))", &["(mul y (mul g (rsqrt (add (mul (sum[-1] (mul x x)) 0.25) s))))", "(mul x (mul g (rsqrt (add (mul (sum[-1] (mul x x)) 0.3) s))))", "(mul x (add g (rsqrt (add (mul (sum[-1] (mul x x)) 0.25) s))))"]),
    ("layer_norm",      "x:f32[3,4] y:f32[3,4]", "(rms_norm (sub x (mul (sum[-1] x) 0.25)) 0.1)", &["(rms_norm (sub x (mul (sum[-1] x) 0.3)) 0.1)", "(rms_norm (sub x (mul (sum[-1] y) 0.25)) 0.1)", "(rms_norm (sub x (mul (sum[-2] x) 0.25)) 0.1)", "(rms_norm (add x (mul (sum[-1] x) 0.25)) 0.1)", "(rms_norm (sub (mul (sum[-1] x) 0.25) x) 0.1)"]),
    ("sigmoid",         "x:f32[3] s:f32[] v:f32[3]", "(recip (add (exp (mul x -2.0)) 1.0))", &["(recip (add (exp (mul x s)) 1.0))", "(recip (add (exp (mul x v)) 1.0))", "(recip (add (exp (mul x -2.0)) 2.0))", "(recip (sub (exp (mul x -2.0)) 1.0))", "(recip (add (exp (mul x 1e-40)) 1.0))"]),
    ("sigmoid-quotient", "x:f32[3] y:f32[3] s:f32[] v:f32[3]", "(div y (add (exp (mul x -2.0)) 1.0))", &["(div y (add (exp (mul x s)) 1.0))", "(div y (add (exp (mul x v)) 1.0))", "(div y (add (exp (mul x -2.0)) 2.0))", "(div (add (exp (mul x -2.0)) 1.0) y)"]),
    ("sigmoid-sides", "x:f32[3] y:f32[3]", "(select (eq x (abs x)) (recip (add (exp (select (eq x (abs x)) (mul x -1.0) x)) 1.0)) (div (exp (select (eq x (abs x)) (mul x -1.0) x)) (add (exp (select (eq x (abs x)) (mul x -1.0) x)) 1.0)))", &[
        "(select (eq x (abs x)) (recip (add (exp (select (eq x (abs x)) (mul x -2.0) x)) 1.0)) (div (exp (select (eq x (abs x)) (mul x -2.0) x)) (add (exp (select (eq x (abs x)) (mul x -2.0) x)) 1.0)))", "(select (eq x (abs y)) (recip (add (exp (select (eq x (abs y)) (mul x -1.0) x)) 1.0)) (div (exp (select (eq x (abs y)) (mul x -1.0) x)) (add (exp (select (eq x (abs y)) (mul x -1.0) x)) 1.0)))", "(select (eq x (abs x)) (recip (add (exp (select (eq x (abs x)) (mul x -1.0) x)) 2.0)) (div (exp (select (eq x (abs x)) (mul x -1.0) x)) (add (exp (select (eq x (abs x)) (mul x -1.0) x)) 2.0)))", "(select (eq x (abs x)) (recip (add (exp (select (eq x (abs x)) x (mul x -1.0))) 1.0)) (div (exp (select (eq x (abs x)) x (mul x -1.0))) (add (exp (select (eq x (abs x)) x (mul x -1.0))) 1.0)))", "(select (eq x (abs x)) (rsqrt (add (exp (select (eq x (abs x)) (mul x -1.0) x)) 1.0)) (div (exp (select (eq x (abs x)) (mul x -1.0) x)) (add (exp (select (eq x (abs x)) (mul x -1.0) x)) 1.0)))"]),
    ("silu",            "x:f32[3] y:f32[3]", "(mul x (sigmoid x))", &["(mul y (sigmoid x))", "(add x (sigmoid x))"]),
    ("swiglu",          "x:f32[3] y:f32[3]", "(mul (silu x) y)", &["(add (silu x) y)", "(mul (sigmoid x) y)"]),
    ("half-tanh",        "u:f32[3]", "(mul (add (tanh u) 1.0) 0.5)", &["(mul (add (tanh u) 1.0) 0.25)", "(mul (add (tanh u) 2.0) 0.5)", "(mul (sub (tanh u) 1.0) 0.5)", "(mul (add (sin u) 1.0) 0.5)"]),
    ("half-tanh-before", "u:f32[3] x:f32[3]", "(mul (mul x 0.5) (add (tanh u) 1.0))", &["(mul (mul x 0.25) (add (tanh u) 1.0))", "(mul (add x 0.5) (add (tanh u) 1.0))", "(mul (mul x 0.5) (add (tanh u) -1.0))"]),
    ("half-tanh-after",  "u:f32[3] x:f32[3]", "(mul (mul x (add (tanh u) 1.0)) 0.5)", &["(mul (mul x (add (tanh u) 1.0)) 0.25)", "(mul (add x (add (tanh u) 1.0)) 0.5)", "(mul (mul x (add (tanh u) -1.0)) 0.5)"]),
    ("gelu",            "x:f32[3] y:f32[3]", "(mul x (sigmoid (mul (add x (mul (mul (mul x x) x) 0.044715)) 1.5957691216057308)))", &[
        "(mul x (sigmoid (mul (add x (mul (mul (mul x x) x) 0.0447)) 1.5957691216057308)))", "(mul x (sigmoid (mul (add x (mul (mul (mul x x) x) 0.044715)) 0.7978845608028654)))", "(mul x (sigmoid (mul (add x (mul (mul (mul x x) x) 0.044715)) 1.702)))",
        "(mul y (sigmoid (mul (add x (mul (mul (mul x x) x) 0.044715)) 1.5957691216057308)))", "(mul x (sigmoid (mul (add y (mul (mul (mul x x) x) 0.044715)) 1.5957691216057308)))", "(mul x (sigmoid (mul (add x (mul (mul (mul x x) y) 0.044715)) 1.5957691216057308)))",
        "(mul x (sigmoid (mul (sub x (mul (mul (mul x x) x) 0.044715)) 1.5957691216057308)))", "(mul x (sigmoid (mul (add x (mul (mul (mul x x) x) -0.044715)) 1.5957691216057308)))", "(mul x (sigmoid (mul (add x (mul (mul (mul x x) x) 0.044715)) -1.5957691216057308)))"]),
    ("gelu-factored",   "x:f32[3] y:f32[3]", "(mul x (sigmoid (mul (mul x (add (mul (mul x x) 0.044715) 1.0)) 1.5957691216057308)))", &[
        "(mul x (sigmoid (mul (mul x (add (mul (mul x x) 0.044) 1.0)) 1.5957691216057308)))", "(mul x (sigmoid (mul (mul x (add (mul (mul x x) 0.044715) 1.0)) 1.6)))", "(mul x (sigmoid (mul (mul x (add (mul (mul x x) 0.044715) 2.0)) 1.5957691216057308)))",
        "(mul x (sigmoid (mul (mul y (add (mul (mul x x) 0.044715) 1.0)) 1.5957691216057308)))", "(mul x (sigmoid (mul (mul x (add (mul (mul x y) 0.044715) 1.0)) 1.5957691216057308)))"]),
    ("rope",            "x:f32[2,6] c:f32[2,3] s:f32[2,3]", "(add (mul x (concat[-1] c c)) (mul (concat[-1] (mul (slice[-1,3,6] x) -1.0) (slice[-1,0,3] x)) (concat[-1] s s)))", &[
        "(add (mul x (concat[-1] c c)) (mul (concat[-1] (mul (slice[-1,0,3] x) -1.0) (slice[-1,3,6] x)) (concat[-1] s s)))", "(add (mul x (concat[-1] c s)) (mul (concat[-1] (mul (slice[-1,3,6] x) -1.0) (slice[-1,0,3] x)) (concat[-1] s s)))",
        "(add (mul x (concat[-1] c c)) (mul (concat[-1] (mul (slice[-1,2,6] x) -1.0) (slice[-1,0,2] x)) (concat[-1] s s)))", "(add (mul x (concat[-1] c c)) (mul (concat[-1] (mul (slice[-1,3,6] x) 1.0) (slice[-1,0,3] x)) (concat[-1] s s)))",
        "(sub (mul x (concat[-1] c c)) (mul (concat[-1] (mul (slice[-1,3,6] x) -1.0) (slice[-1,0,3] x)) (concat[-1] s s)))", "(add (mul x (concat[-1] c c)) (mul (concat[-1] (mul (slice[-1,3,6] x) -1.0) (slice[-1,1,4] x)) (concat[-1] s s)))",
        "(add (mul x (concat[-1] c c)) (mul (concat[-1] (mul (slice[-1,2,6] x) -1.0) (slice[-1,1,3] x)) (concat[-1] s s)))", "(add (mul x (concat[-1] c c)) (mul (concat[-1] (mul (slice[-1,2,5] x) -1.0) (slice[-1,0,3] x)) (concat[-1] s s)))"]),
    ("rope-halves",     "x:f32[2,6] c:f32[2,3] s:f32[2,3]", "(concat[-1] (sub (mul (slice[-1,0,3] x) c) (mul (slice[-1,3,6] x) s)) (add (mul (slice[-1,3,6] x) c) (mul (slice[-1,0,3] x) s)))", &[
        "(concat[-1] (sub (mul (slice[-1,3,6] x) c) (mul (slice[-1,0,3] x) s)) (add (mul (slice[-1,0,3] x) c) (mul (slice[-1,3,6] x) s)))", "(concat[-1] (add (mul (slice[-1,0,3] x) c) (mul (slice[-1,3,6] x) s)) (add (mul (slice[-1,3,6] x) c) (mul (slice[-1,0,3] x) s)))",
        "(concat[-1] (sub (mul (slice[-1,0,3] x) c) (mul (slice[-1,3,6] x) s)) (sub (mul (slice[-1,3,6] x) c) (mul (slice[-1,0,3] x) s)))", "(concat[-1] (sub (mul (slice[-1,0,3] x) s) (mul (slice[-1,3,6] x) c)) (add (mul (slice[-1,3,6] x) c) (mul (slice[-1,0,3] x) s)))",
        "(concat[-1] (sub (mul (slice[-1,2,3] x) c) (mul (slice[-1,3,6] x) s)) (add (mul (slice[-1,3,6] x) c) (mul (slice[-1,2,3] x) s)))", "(concat[-2] (sub (mul (slice[-1,0,3] x) c) (mul (slice[-1,3,6] x) s)) (add (mul (slice[-1,3,6] x) c) (mul (slice[-1,0,3] x) s)))", "(concat[-1] (sub (mul (slice[-1,1,4] x) c) (mul (slice[-1,3,6] x) s)) (add (mul (slice[-1,3,6] x) c) (mul (slice[-1,1,4] x) s)))"]),
    ("mask-add",        "p:bool[3] s:f32[3]", "(add s (select p 0.0 -inf))", &["(add s (select p -inf 0.0))", "(add s (select p 0.0 inf))", "(add s (select p 1.0 -inf))", "(add s (select p 0.0 -1e30))", "(sub s (select p 0.0 -inf))", "(mul s (select p 0.0 -inf))"]),
    ("mask-not",        "a:i32[3] b:i32[3] x:f32[3] y:f32[3] u:f32[3]", "(select (lt a b) x y)", &["(select (lt u x) x y)", "(select (le a b) x y)", "(select (eq a b) x y)"]),

    ("attention", "q:f32[2,4,5] k:f32[2,4,5] v:f32[2,4,6] w:f32[4,4] u:f32[4,5] p:bool[4,4]", "(contract[abc,acd->abd] (softmax (contract[abd,acd->abc] q k)) v)", &[
        // values along the queries; the batch is summed after; every key's score is kept; an outer product
        "(contract[abc,abd->acd] (softmax (contract[abd,acd->abc] q k)) v)", "(contract[abc,acd->bd] (softmax (contract[abd,acd->abc] q k)) v)", "(contract[abc,acd->abcd] (softmax (contract[abd,acd->abc] q k)) v)", "(contract[abc,acd->abd] (exp (contract[abd,acd->abc] q k)) v)", "(contract[ac,acd->ad] (softmax (contract[acd,acd->ac] q k)) v)", "(contract[abc,acd->abd] (softmax (contract[bd,acd->abc] u k)) v)", "(contract[abc,cb->abc] (softmax (contract[abd,acd->abc] q k)) w)", "(contract[abc,bc->a] (softmax (contract[abd,acd->abc] q k)) w)",
        // probabilities times what may be learned, or with something added; those not kept are not 0
        "(contract[abc,acd->abd] (mul (softmax (contract[abd,acd->abc] q k)) w) v)", "(contract[abc,acd->abd] (add (softmax (contract[abd,acd->abc] q k)) w) v)", "(contract[abc,acd->abd] (select p (softmax (contract[abd,acd->abc] q k)) 1.0) v)", "(contract[abc,acd->abd] (select p 0.5 (softmax (contract[abd,acd->abc] q k))) v)",
        // the axis before the keys is one that queries and keys share
        "(contract[bac,acd->bad] (softmax (select (le iota[-1,4] iota[-2,2]) (contract[abd,acd->bac] q k) -inf)) v)"]),
    ("attention-less", "x:f32[2,4,4] y:f32[2,4,4] v:f32[2,4,6]", "(contract[abc,acd->abd] (sub (softmax x) (softmax y)) v)", &[
        "(contract[abc,acd->abd] (sub (softmax x) y) v)", "(contract[abc,acd->abd] (sub x (softmax y)) v)", "(contract[abc,acd->abd] (sub (softmax x) (mul y y)) v)", "(contract[abc,acd->abd] (add (softmax x) (softmax y)) v)"]),
    ("attention-factor", "x:f32[2,4,4] y:f32[2,4,4] v:f32[2,4,6] u:f32[2,4,6,3] r:f32[2,4,1] w:f32[4] t:f32[1,1,4]", "(contract[abc,acd->abd] (mul (softmax x) r) v)", &[
        // it differs from key to key; no probabilities; a number; the batch or the rows are summed; two axes of values, or none
        "(contract[abc,acd->abd] (mul (softmax x) w) v)", "(contract[abc,acd->abd] (mul (softmax x) t) v)", "(contract[abc,acd->abd] (mul x r) v)", "(contract[abc,acd->abd] (mul (softmax x) 2.0) v)", "(contract[abc,acd->bd] (mul (softmax x) r) v)", "(contract[abc,acde->abde] (mul (softmax x) r) u)"]),
    ("attention-grouped", "q:f32[2,4,3,5] k:f32[2,2,3,5] v:f32[2,2,3,5] w:f32[2,1,3,5]", "(attention[abce,abde,abdf->abcf|4] q (reshape[2,4,3,5] (broadcast[2,2,2,3,5] (reshape[2,2,1,3,5] k))) (reshape[2,4,3,5] (broadcast[2,2,2,3,5] (reshape[2,2,1,3,5] v))) 1.0)", &[
        // one of the two tiles its heads, or both; one is repeated four times; positions are repeated, not heads
        "(attention[abce,abde,abdf->abcf|4] q (reshape[2,4,3,5] (broadcast[2,2,2,3,5] (reshape[2,2,1,3,5] k))) (reshape[2,4,3,5] (broadcast[2,2,2,3,5] (reshape[2,1,2,3,5] v))) 1.0)",
        "(attention[abce,abde,abdf->abcf|4] q (reshape[2,4,3,5] (broadcast[2,2,2,3,5] (reshape[2,1,2,3,5] k))) (reshape[2,4,3,5] (broadcast[2,2,2,3,5] (reshape[2,1,2,3,5] v))) 1.0)",
        "(attention[abce,abde,abdf->abcf|4] q (reshape[2,4,3,5] (broadcast[2,2,2,3,5] (reshape[2,2,1,3,5] k))) (reshape[2,4,3,5] (broadcast[2,1,4,3,5] (reshape[2,1,1,3,5] w))) 1.0)",
        "(attention[abce,abde,abdf->abcf|4] q (reshape[2,4,6,5] (broadcast[2,4,3,2,5] (reshape[2,4,3,1,5] q))) (reshape[2,4,6,5] (broadcast[2,4,3,2,5] (reshape[2,4,3,1,5] q))) 1.0)"]),

    ("pads-to-concat", "x:f32[2,3] y:f32[2,3] z:f32[1,2] w:f32[3,2]", "(add (pad[-1,0,3] x) (pad[-1,3,0] y))", &[
        // a gap, an overlap, another axis, and one that is repeated along the axis
        "(add (pad[-1,0,4] x) (pad[-1,4,0] y))", "(add (pad[-1,0,2] x) (pad[-1,2,0] y))", "(add (pad[-1,1,3] x) (pad[-1,3,1] y))", "(add (pad[-1,0,0] x) (pad[-1,0,0] y))", "(sub (pad[-1,0,3] x) (pad[-1,3,0] y))", "(add (pad[-2,0,2] x) (pad[-1,0,0] (pad[-2,2,0] y)))", "(add (pad[-2,0,0] z) (pad[-2,1,0] w))"]),
    ("pad-nothing",    "x:f32[2,3]", "(pad[-1,0,0] x)", &["(pad[-1,1,0] x)", "(pad[-1,0,1] x)"]),
    ("scatter-into",   "x:f32[4,3] i:i32[2] u:f32[2,3] r:f32[1,3]", "(add x (scatter_add (broadcast[4,3] 0.0) i u))", &["(add x (scatter_add (broadcast[4,3] 1.0) i u))", "(sub x (scatter_add (broadcast[4,3] 0.0) i u))", "(add r (scatter_add (broadcast[4,3] 0.0) i u))", "(add x (scatter_add x i u))"]),
    ("softmax-bwd",    "p:f32[3,3] g:f32[3,3] h:f32[3,3]", "(mul p (sub g (sum[-1] (mul p g))))", &["(mul p (sub g (sum[-1] (mul p h))))", "(mul h (sub g (sum[-1] (mul p g))))", "(mul p (sub g (sum[-2] (mul p g))))", "(mul p (add g (sum[-1] (mul p g))))", "(mul p (sub (sum[-1] (mul p g)) g))"]),

    ("associate",      "a:f32[5,4] b:f32[4,3] c:f32[3,2] e:f32[7] g:f32[3] h:f32[5,3]", "(contract[ac,cb->ab] (contract[ac,cb->ab] a b) c)", &["(contract[ab,c->abc] (contract[ac,cb->ab] a b) e)", "(contract[ab,b->ab] (contract[ac,cb->ab] a b) g)", "(contract[ab,ab->ab] (contract[ac,cb->ab] a b) h)"]),
    ("factor",         "x:f32[2,3] y:f32[2,3] u:f32[3,4] v:f32[3,4]", "(add (contract[ac,cb->ab] x u) (contract[ac,cb->ab] x v))", &["(add (contract[ac,cb->ab] x u) (contract[ac,cb->ab] y v))", "(sub (contract[ac,cb->ab] x u) (contract[ac,cb->ab] x v))", "(add (contract[ac,cb->ab] x u) (contract[ca,cb->ab] (transpose[1,0] x) v))"]),
    ("factor-turned",  "x:f32[2,3] y:f32[2,3] u:f32[4,3] v:f32[3,4] a:f32[3,1] b:f32[1,4]", "(add (contract[ac,bc->ab] x u) (contract[ac,cb->ab] x (contract[ac,cb->ab] a b)))", &["(add (contract[ac,bc->ab] y u) (contract[ac,cb->ab] x (contract[ac,cb->ab] a b)))", "(sub (contract[ac,bc->ab] x u) (contract[ac,cb->ab] x (contract[ac,cb->ab] a b)))", "(add (contract[ac,cb->ab] x v) (contract[ac,cb->ab] x (contract[ac,cb->ab] a b)))", "(add (contract[ac,bc->ab] x u) (contract[ac,cb->ab] x v))"]),
    ("distribute",     "x:f32[2,3] u:f32[3,4] a:f32[3,1] b:f32[1,4] v:f32[3,4] r:f32[1,4]", "(contract[ac,cb->ab] x (add u (contract[ac,cb->ab] a b)))", &["(contract[ac,cb->ab] x (add u v))", "(contract[ac,cb->ab] x (sub u (contract[ac,cb->ab] a b)))", "(contract[ac,cb->ab] x (add r (contract[ac,cb->ab] a b)))"]),
];

/// Reads a term over named operands.
struct Reader<'a> {
    tokens: Vec<&'a str>,
    at: usize,
    names: Vec<&'a str>,
    func: Func,
}

impl<'a> Reader<'a> {
    fn term(&mut self) -> NodeId {
        let word = self.next();
        if word != "(" {
            return match self.names.iter().position(|n| *n == word) {
                Some(i) => NodeId(i as u32),
                None => self.op(word, &[]),
            };
        }
        let op = self.next();
        let mut args = vec![];
        while self.tokens[self.at] != ")" {
            args.push(self.term());
        }
        self.at += 1;
        self.op(op, &args)
    }

    fn next(&mut self) -> &'a str {
        self.at += 1;
        self.tokens[self.at - 1]
    }

    fn op(&mut self, op: &str, args: &[NodeId]) -> NodeId {
        self.func.add(op.parse().unwrap_or_else(|e| panic!("{op}: {e}")), args)
    }
}

/// A function of named, typed operands from a term.
fn read(operands: &str, term: &str) -> Func {
    let spaced = term.replace('(', " ( ").replace(')', " ) ");
    let mut reader = Reader { tokens: spaced.split_whitespace().collect(), at: 0, names: vec![], func: Func::new("main") };
    for (i, operand) in operands.split_whitespace().enumerate() {
        let (name, ty) = operand.split_once(':').unwrap();
        reader.names.push(name);
        reader.func.add(Op::Input(i as u32, ty.parse().unwrap()), &[]);
    }
    let root = reader.term();
    reader.func.results = vec![root];
    reader.func
}

fn applies(rule: &Rule, func: &Func) -> bool {
    let mut terms = Terms::new(&[]);
    let ids = terms.add_func(func);
    rule.rewrite(&mut terms, ids[func.results[0].index()]).is_some()
}

#[test]
fn near_misses_are_left_alone() {
    let all = rules::all();
    for (name, operands, hit, misses) in NEAR {
        let rule = all.iter().find(|r| r.name == *name).unwrap_or_else(|| panic!("there is no rule {name}"));
        assert!(applies(rule, &read(operands, hit)), "{name} does not apply to {hit}");
        means_the_same(name, &read(operands, hit));
        for miss in *misses {
            let func = read(operands, miss);
            assert!(!applies(rule, &func), "{name} applies to {miss}");
            means_the_same(name, &func);
        }
    }
}

/// A rule with a condition of its own, or with two of a kind on its left, has near misses here.
#[test]
fn every_rule_has_near_misses() {
    for rule in rules::all() {
        assert!(NEAR.iter().any(|n| n.0 == rule.name) || rule.name == "cross-entropy", "{} has no near misses", rule.name);
    }
}

/// Whatever became of a program at every level, it evaluates to the same.
fn means_the_same(what: &str, func: &Func) {
    let names = |n: usize, c: char| (0..n).map(|i| format!("{c}{i}")).collect();
    let mut func = func.clone();
    for i in 0..func.results.len() {
        if func.ty(func.results[i]).dtype == DType::Tuple {
            func.results[i] = func.add(Op::Get(0), &[func.results[i]]);
        }
    }
    let graph = Graph { funcs: vec![func.clone()], inputs: names(func.inputs().len(), 'x'), outputs: names(func.results.len(), 'y') }.sweep();
    let env = environment(&graph, 5, 4);
    let Ok(want) = eval(&graph, &env) else { panic!("{what}: {graph} does not evaluate") };
    for opt in [Opt::Greedy, Opt::Egg] {
        let stage = optimize(&graph, None, opt).unwrap().fused;
        let have = eval(&stage, &env).unwrap();
        for (name, w) in &want {
            let same = w.data.iter().zip(&have[name].data).all(|(w, h)| w == h || (w.is_nan() && h.is_nan()) || w.is_infinite() == h.is_infinite());
            let d = if w.data.iter().all(|x| x.is_finite()) { difference(&have[name], w) } else { 0.0 };
            assert!(same && d < 1e-9, "{what}, {opt}: {name} differs by {d}\n{graph}\n{stage}");
        }
    }
}

/// A program with one thing changed somewhere, where its types allow.
fn mutate(func: &Func, r: &mut Random) -> Option<Func> {
    let at = r.below(func.nodes.len());
    let mut out = Func::new("main");
    let mut new: Vec<NodeId> = vec![];
    for (i, node) in func.nodes.iter().enumerate() {
        let mut args: Vec<NodeId> = node.args.iter().map(|a| new[a.index()]).collect();
        let mut op = node.op.clone();
        if i == at {
            (op, args) = change(&out, op, args, r)?;
        }
        let types: Vec<&Type> = args.iter().map(|a| out.ty(*a)).collect();
        let ty = match &op {
            Op::Param(_, ty) | Op::Input(_, ty) => ty.clone(),
            op => ir::infer(op, &types).ok()?,
        };
        new.push(out.add_typed(op, &args, ty));
    }
    out.results = func.results.iter().map(|x| new[x.index()]).collect();
    Some(out)
}

fn change(func: &Func, op: Op, mut args: Vec<NodeId>, r: &mut Random) -> Option<(Op, Vec<NodeId>)> {
    // another operand of the same type, or the two exchanged
    if !args.is_empty() && r.below(2) == 0 {
        let i = r.below(args.len());
        let same: Vec<NodeId> = func.ids().filter(|id| func.ty(*id) == func.ty(args[i]) && *id != args[i]).collect();
        if same.is_empty() || r.below(3) == 0 {
            args.reverse();
        } else {
            args[i] = same[r.below(same.len())];
        }
        return Some((op, args));
    }
    let op = match op {
        Op::Const(bits, DType::F32) => {
            let x = f64::from_bits(bits);
            let others = [-x, x + 1.0, x * 1.125, 1.0, 0.0, -1.0, 0.5];
            ir::num(others[r.below(others.len())])
        }
        Op::Const(bits, dtype) => Op::Const((f64::from_bits(bits) + 1.0).to_bits(), dtype),
        Op::Iota(axis, dim) => Op::Iota([axis - 1, -1][r.below(2)], dim),
        Op::Bin(Bin::Add) => Op::Bin(Bin::Sub),
        Op::Bin(Bin::Sub) => Op::Bin(Bin::Add),
        Op::Bin(Bin::Mul) => Op::Bin([Bin::Add, Bin::Maximum][r.below(2)]),
        Op::Bin(Bin::Le) => Op::Bin([Bin::Lt, Bin::Eq][r.below(2)]),
        Op::Bin(Bin::Lt) => Op::Bin(Bin::Le),
        Op::Un(Un::Rsqrt) => Op::Un(Un::Sqrt),
        Op::Un(Un::Exp) => Op::Un([Un::Tanh, Un::Sin][r.below(2)]),
        Op::Un(Un::Tanh) => Op::Un(Un::Sin),
        Op::Reduce(red, axes) => {
            let other = axes.iter().map(|a| [a - 1, -1, -2][r.below(3)]).collect();
            if r.below(2) == 0 { Op::Reduce(red, other) } else { Op::Reduce(if red == ir::Red::Sum { ir::Red::Max } else { ir::Red::Sum }, axes) }
        }
        Op::Transpose(mut p) => {
            let (i, j) = (r.below(p.len()), r.below(p.len()));
            p.swap(i, j);
            Op::Transpose(p)
        }
        Op::Slice(axis, lo, hi) if lo > 0 => Op::Slice(axis, lo - 1, hi - 1),
        Op::Slice(axis, lo, hi) => Op::Slice(axis, lo + 1, hi + 1),
        _ => return None,
    };
    Some((op, args))
}

/// Spellings that are recognised, with one thing changed at random: whatever is made of them means what they do.
#[test]
fn random_near_misses_mean_what_they_do() {
    let heavy = std::env::var("EGGCORN_FUZZ").is_ok_and(|v| v == "heavy");
    let mut tried = 0;
    for seed in 0..if heavy { 20_000 } else { 600 } {
        let mut r = Random(seed * 100);
        let func = match seed % 3 {
            0 => {
                let b = Builder::default();
                b.output("y", attention(&b.scope(), &mut r, Spelling::nth(seed as usize * 7 % Spelling::COUNT)));
                b.finish().unwrap().funcs.pop().unwrap()
            }
            _ => {
                let which = r.below(CORPUS);
                corpus(&mut r, which)
            }
        };
        if let Some(near) = mutate(&func, &mut r) {
            tried += 1;
            means_the_same(&format!("seed {seed}"), &near);
        }
    }
    assert!(tried > 200, "only {tried} programs were well-typed");
}
