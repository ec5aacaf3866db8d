//! The mathematics several models share, in primitive operations. Nothing here is fused; the compiler finds that.

use ir::{DType, Dim, Dims, Scope, Tensor};

/// x W + b, with W stored [in, out] as GPT-2's checkpoints do.
#[track_caller]
pub fn affine<'g>(s: &Scope<'g>, x: Tensor<'g>, width: usize) -> Tensor<'g> {
    plain_affine(s, x, width) + s.param("bias", [width])
}

/// x W, with W as there
#[track_caller]
pub fn plain_affine<'g>(s: &Scope<'g>, x: Tensor<'g>, width: usize) -> Tensor<'g> {
    x.contract("btc,cd->btd", s.param("weight", (x.dim(-1), width)))
}

/// x Wᵀ, with W stored [out, in] as PyTorch's linear layers do.
#[track_caller]
pub fn linear<'g>(s: &Scope<'g>, x: Tensor<'g>, width: usize) -> Tensor<'g> {
    x.contract("btc,dc->btd", s.param("weight", (Dim::from(width), x.dim(-1))))
}

/// x Wᵀ + b, with W as there; without b where it is not biased.
#[track_caller]
pub fn projection<'g>(s: &Scope<'g>, x: Tensor<'g>, width: usize, biased: bool) -> Tensor<'g> {
    let y = linear(s, x, width);
    if biased { y + s.param("bias", [width]) } else { y }
}

/// (silu(x W₁) ∘ x W₃) W₂, so wide inside
#[track_caller]
pub fn gated<'g>(s: &Scope<'g>, x: Tensor<'g>, width: usize, biased: bool) -> Tensor<'g> {
    let out = x.dim(-1).value().map_or(1, |c| c as usize);
    let project = |name, x, width| projection(&s.at(name), x, width, biased);
    project("down_proj", silu(project("gate_proj", x, width)) * project("up_proj", x, width), out)
}

/// (x − mean x) / √(var x + ε) · weight + bias
#[track_caller]
pub fn layer_norm<'g>(s: &Scope<'g>, x: Tensor<'g>, eps: f64) -> Tensor<'g> {
    plain_layer_norm(s, x, eps) + s.param("bias", [x.dim(-1)])
}

/// (x − mean x) / √(var x + ε) · weight
#[track_caller]
pub fn plain_layer_norm<'g>(s: &Scope<'g>, x: Tensor<'g>, eps: f64) -> Tensor<'g> {
    let centred = x - x.mean();
    let variance = (centred * centred).mean();
    centred * (variance + eps).rsqrt() * s.param("weight", [x.dim(-1)])
}

/// x / √(mean x² + ε) · weight
#[track_caller]
pub fn rms_norm<'g>(s: &Scope<'g>, x: Tensor<'g>, eps: f64) -> Tensor<'g> {
    x * ((x * x).mean() + eps).rsqrt() * s.param("weight", [x.dim(-1)])
}

/// exp(x − max x) / Σ exp(x − max x)
#[track_caller]
pub fn softmax(x: Tensor) -> Tensor {
    let e = (x - x.max()).exp();
    e / e.sum()
}

/// GELU in the tanh form: ½ x (1 + tanh(√(2/π) (x + 0.044715 x³)))
#[track_caller]
pub fn gelu(x: Tensor) -> Tensor {
    let u = (x + x.pow(3.0) * 0.044715) * (2.0 / std::f64::consts::PI).sqrt();
    x * 0.5 * (u.tanh() + 1.0)
}

/// GELU as it is defined, x Φ(x): ½ x (1 + erf(x / √2)) (Hendrycks & Gimpel 2016)
#[track_caller]
pub fn gelu_exact(x: Tensor) -> Tensor {
    x * 0.5 * ((x * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0)
}

/// max(x, 0), of which the slope at 0 is 0
#[track_caller]
pub fn relu<'g>(s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
    let zero = s.num(0.0);
    x.le(zero).select(zero, x)
}

/// x · sigmoid x, where sigmoid x = 1 / (1 + exp −x)
#[track_caller]
pub fn silu(x: Tensor) -> Tensor {
    x * sigmoid(x)
}

/// 1 / (1 + exp −x), written with e = exp −|x|, which is never ∞: 1 / (1 + e), or e / (1 + e) below 0
#[track_caller]
pub fn sigmoid(x: Tensor) -> Tensor {
    let above = x.equals(x.abs());
    let e = above.select(-x, x).exp();
    let r = (e + 1.0).recip();
    above.select(r, e * r)
}

/// Scores of other documents' positions become −∞. documents: [B, T], for scores [B, H, T, T]
#[track_caller]
pub fn within_documents<'g>(s: &Scope<'g>, scores: Tensor<'g>, documents: Tensor<'g>) -> Tensor<'g> {
    of_queries(documents).equals(of_keys(documents)).select(scores, s.num(f64::NEG_INFINITY))
}

/// What is known of each token of rows [B, T], as scores [B, H, T, T] have those who ask.
#[track_caller]
pub(crate) fn of_queries(x: Tensor) -> Tensor {
    x.reshape((x.dim(-2), 1usize, x.dim(-1), 1usize))
}

/// The same as they have keys.
#[track_caller]
pub(crate) fn of_keys(x: Tensor) -> Tensor {
    x.reshape((x.dim(-2), 1usize, 1usize, x.dim(-1)))
}

/// Scores [B, H, T, S] of keys that are no tokens become −∞, but where `besides` holds. mask: [B, S], 1 where there is a token
#[track_caller]
pub fn of_tokens<'g>(s: &Scope<'g>, scores: Tensor<'g>, mask: Tensor<'g>, besides: Option<Tensor<'g>>) -> Tensor<'g> {
    let (b, keys) = (mask.dim(-2), mask.dim(-1));
    let none = s.num(f64::NEG_INFINITY);
    let other = besides.map_or(none, |besides| besides.select(scores, none));
    s.int(1).le(mask.reshape((b, 1usize, 1usize, keys))).select(scores, other)
}

/// A mask [B, S] in which a row of no token at all has all of them, so that something is seen.
#[track_caller]
pub fn or_all<'g>(s: &Scope<'g>, mask: Tensor<'g>) -> Tensor<'g> {
    s.num(1.0).le(mask.cast(DType::F32).max()).select(mask, s.int(1))
}

/// x with each element dropped with probability p and the rest scaled by 1 / (1 − p). The bits are a function of the key.
#[track_caller]
pub fn dropout<'g>(s: &Scope<'g>, x: Tensor<'g>, p: f64, key: Option<Tensor<'g>>) -> Tensor<'g> {
    let Some(key) = key.filter(|_| p > 0.0) else { return x };
    let bits = key.apply(ir::Op::RandomBits(x.ty().dims), &[]);
    let keep = s.uint((p * 2f64.powi(32)) as u32).le(bits);
    keep.select(x * (1.0 / (1.0 - p)), s.num(0.0))
}

/// What a block keeps of earlier tokens, each [B, H, S, D], of which each row's before its position are filled.
#[derive(Clone)]
pub struct Past<'g> {
    /// Keys and values, or whatever the cache names, in its order.
    pub kept: Vec<Tensor<'g>>,
    /// The position of each row's first token at hand: `i32[B]`.
    pub position: Tensor<'g>,
}

impl<'g> Past<'g> {
    /// What is kept with these tokens', each [B, H, T, D], at their positions.
    #[track_caller]
    pub fn with(&self, new: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        self.kept.iter().zip(new).map(|(kept, new)| kept.update(-2, *new, self.first())).collect()
    }

    /// The positions as [B, 1, 1, 1].
    #[track_caller]
    pub(crate) fn first(&self) -> Tensor<'g> {
        beside(self.position, 3)
    }
}

/// One value a row, [B], with so many axes of size 1 behind.
#[track_caller]
pub(crate) fn beside(x: Tensor, axes: usize) -> Tensor {
    x.reshape(std::iter::once(x.dim(-1)).chain(std::iter::repeat_n(Dim::ONE, axes)).collect::<Dims>())
}

/// Of each row of x [B, T, C] the element of a number, an `i32[B]` or one of all: [B, 1, C].
#[track_caller]
pub(crate) fn nth<'g>(s: &Scope<'g>, x: Tensor<'g>, number: Tensor<'g>) -> Tensor<'g> {
    let (b, t, c) = (x.dim(-3), x.dim(-2), x.dim(-1));
    let rows = x.reshape((b.times(t).expect("a tensor has as many rows"), c));
    let first = s.iota(-1, b) * s.size(t).cast(DType::I32);
    rows.gather(first + number).reshape((b, 1usize, c))
}
