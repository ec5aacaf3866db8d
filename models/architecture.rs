//! What a model implements.

use crate::hub;
use crate::init::Init;
use crate::layers::{Past, beside, causal, causal_within};
use ir::{DType, Scope, Tensor};
use std::fmt;

/// A model: plain mathematics in primitive operations, with its sizes and its start.
///
/// The type's fields are the settings: what stands under `[model]` in a configuration. One of them is `vocab_size`, the number of
/// tokens, which is set to the tokenizer's. The rest of the bounds are what [`Entry::of`](crate::Entry::of) needs to read them.
pub trait Architecture: fmt::Debug + Send + Sync {
    /// The name people call it by.
    fn name() -> &'static str
    where
        Self: Sized;

    /// What the blocks make of the tokens [B, T] that are read: [B, T, C], and what is kept of each for the tokens after it, in the
    /// order of [`cache`](Self::cache), where past tokens are kept at all. [`Reading::blocks`] does the second.
    fn hidden<'g>(&self, s: &Scope<'g>, read: &Reading<'g>) -> (Tensor<'g>, Vec<Tensor<'g>>);

    /// Logits [B, T, V] of what the blocks made, [B, T, C].
    fn head<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g>;

    /// What generation keeps of the tokens before, so that it reads each once.
    fn cache(&self) -> Vec<Kept>;

    /// How the parameter at a path starts; `{}` in it is already the layer's number.
    fn init(&self, path: &str) -> Init;

    /// Its sizes.
    fn shape(&self) -> Shape;

    /// Why the settings are no model, if they are none: the first that is out of its range, and one thing to try.
    fn check(&self) -> Result<(), String>;

    /// The names that `architectures` of Hugging Face's `config.json` has for what this reads; none of a model that has no such form.
    ///
    /// Parameters have the names and layouts of the tensors in such a model's files.
    fn hub() -> &'static [&'static str]
    where
        Self: Sized,
    {
        &[]
    }

    /// The settings of a `config.json` of one of these names. What is not asked for is refused afterwards, and [`check`](Self::check) follows.
    fn from_hub(config: &mut hub::Config) -> Result<Self, String>
    where
        Self: Sized,
    {
        Err(format!("the model {} has no form there to read {} from", Self::name(), config.architecture()?))
    }

    /// The same settings as a `config.json` has them; why there is no such model there, if there is none.
    fn to_hub(&self) -> Result<hub::Written, String> {
        Err("the model has no form there".into())
    }
}

/// The sizes of a model that others ask for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Number of tokens.
    pub vocabulary: usize,
    /// Longest context.
    pub context: usize,
    /// Probability of dropout in training.
    pub dropout: f64,
    /// Parameters that are multiplied with every token: those of products, not of tables.
    pub multiplied: f64,
    /// Layers times the width that attention sums over.
    pub attended: f64,
}

impl Shape {
    /// What training costs a token, in floating-point operations: 6 a parameter, and attention's share over half the context, for the
    /// other half is masked (Chowdhery et al. 2022, appendix B).
    pub fn flops_a_token(&self, context: usize) -> f64 {
        6.0 * self.multiplied + 12.0 * self.attended * context as f64 / 2.0
    }
}

/// A tensor that generation keeps, [layers, B, heads, length, depth], of which the places of tokens already read are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its name.
    pub name: &'static str,
    /// Number of layers; each keeps its own.
    pub layers: usize,
    /// Number of heads.
    pub heads: usize,
    /// Number of tokens there is room for.
    pub length: usize,
    /// Elements a token, layer and head.
    pub depth: usize,
}

impl Kept {
    /// Keys and values.
    pub fn keys_and_values(layers: usize, heads: usize, length: usize, depth: usize) -> Vec<Kept> {
        ["k", "v"].map(|name| Kept { name, layers, heads, length, depth }).to_vec()
    }
}

/// What a model reads.
pub struct Reading<'g> {
    /// Ids [B, T], an `i32`.
    pub tokens: Tensor<'g>,
    /// Seeds dropout: a `u32`, there in training alone, so nothing is dropped outside it.
    pub key: Option<Tensor<'g>>,
    /// In generation: the position of the first token of each row, `i32[B]`, and what is kept of those before.
    pub past: Option<(Tensor<'g>, Vec<Tensor<'g>>)>,
    /// In rows that documents are packed into: which token is of which. There is no past then.
    pub documents: Option<Documents<'g>>,
}

/// The documents that rows are packed with.
#[derive(Clone, Copy)]
pub struct Documents<'g> {
    /// Each token's document: `i32[B,T]`, of a row alike where two tokens are of one.
    pub ids: Tensor<'g>,
    /// Where in it the token stands: `i32[B,T]`.
    pub positions: Tensor<'g>,
}

/// Where a block stands.
#[derive(Clone, Copy)]
pub struct Place<'g> {
    /// Seeds this block's dropout; it may add 0 to 7 for its several places.
    pub key: Option<Tensor<'g>>,
    /// What this block keeps of the tokens before.
    pub past: Option<Past<'g>>,
    /// Each token's document, `i32[B,T]`, where rows are packed with such.
    pub documents: Option<Tensor<'g>>,
}

impl<'g> Place<'g> {
    /// Keys and values of these tokens, [B, H, T, D], and of those before: [B, H, S, D].
    #[track_caller]
    pub fn with_past(&self, k: Tensor<'g>, v: Tensor<'g>) -> [Tensor<'g>; 2] {
        self.past.map_or([k, v], |p| p.with(k, v))
    }

    /// Scores [B, H, T, S] of tokens after the one that asks, and of other documents' tokens, become −∞.
    #[track_caller]
    pub fn visible(&self, s: &Scope<'g>, scores: Tensor<'g>) -> Tensor<'g> {
        match (self.past, self.documents) {
            (None, None) => causal(s, scores),
            (None, Some(documents)) => causal_within(s, scores, documents),
            (Some(past), _) => past.mask(s, scores),
        }
    }
}

impl<'g> Reading<'g> {
    /// A whole sequence, with nothing before it and nothing dropped.
    pub fn of(tokens: Tensor<'g>) -> Reading<'g> {
        Reading { tokens, key: None, past: None, documents: None }
    }

    /// The tokens' positions: `[T]`, or `[B, T]` where each row has its own, in generation and in rows of documents.
    #[track_caller]
    pub fn positions(&self, s: &Scope<'g>) -> Tensor<'g> {
        self.documents.map_or_else(|| self.places(s, -1, 1), |d| d.positions)
    }

    /// The same as they broadcast over heads [B, H, T, D]: [T, 1], or [B, 1, T, 1].
    #[track_caller]
    pub fn head_positions(&self, s: &Scope<'g>) -> Tensor<'g> {
        let (b, t) = (self.tokens.dim(-2), self.tokens.dim(-1));
        self.documents.map_or_else(|| self.places(s, -2, 3), |d| d.positions.reshape((b, 1usize, t, 1usize)))
    }

    /// Positions along an axis; each row's own have so many axes behind the rows'.
    #[track_caller]
    fn places(&self, s: &Scope<'g>, axis: i8, behind: usize) -> Tensor<'g> {
        let places = s.iota(axis, self.tokens.dim(-1));
        self.past.as_ref().map_or(places, |(position, _)| beside(*position, behind) + places)
    }

    /// `x` after `n` blocks, each with its own parameters under `name.{}`, and what they keep, stacked. A block gives its result and what
    /// it keeps of the tokens, those before among them.
    #[track_caller]
    pub fn blocks(
        &self,
        s: &Scope<'g>,
        name: &str,
        n: usize,
        x: Tensor<'g>,
        block: impl FnOnce(&Scope<'g>, Tensor<'g>, Place<'g>) -> (Tensor<'g>, [Tensor<'g>; 2]),
    ) -> (Tensor<'g>, Vec<Tensor<'g>>) {
        let own = match (&self.past, self.key) {
            (Some((_, kept)), _) => kept.clone(),
            (None, Some(_)) => vec![s.iota(-1, n).cast(DType::U32)],
            (None, None) => vec![],
        };
        let documents = self.documents.map(|d| d.ids);
        s.scan(name, n, x, &own, |s, x, own| match (&self.past, self.key) {
            (Some((position, _)), _) => {
                let past = Some(Past { k: own[0], v: own[1], position: *position });
                let (x, kept) = block(s, x, Place { key: None, past, documents });
                (x, kept.to_vec())
            }
            (None, key) => {
                // the layer's number moves the key, so that no two layers drop alike
                let key = key.map(|key| key + (own[0] + s.uint(1)) * s.uint(8));
                (block(s, x, Place { key, past: None, documents }).0, vec![])
            }
        })
    }
}
