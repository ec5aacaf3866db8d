//! What a model implements.

use crate::heads::{Head, Pooling, score};
use crate::hub;
use crate::init::Init;
use crate::layers::{Past, beside, of_keys, of_queries, of_tokens, or_all, within_documents};
use ir::{DType, Places, Scope, Tensor, names};
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

    /// Which tokens a token sees.
    fn kind(&self) -> Kind {
        Kind::Decoder
    }

    /// What the blocks make of the tokens [B, T] that are read, and what is kept of each for the tokens after it, in the order of
    /// [`cache`](Self::cache), where past tokens are kept at all. [`Reading::blocks`] does the second.
    fn hidden<'g>(&self, s: &Scope<'g>, read: &Reading<'g>) -> Hidden<'g>;

    /// What the encoder of a [`Kind::EncoderDecoder`] makes of the tokens [B, S] of a text that its decoder sees: [B, S, C]. Others have
    /// none.
    fn encode<'g>(&self, _: &Scope<'g>, _: &Reading<'g>) -> Option<Tensor<'g>> {
        None
    }

    /// What the decoder's layers keep of a text that its encoder made [B, S, C] of, so that generation computes it once: each
    /// [layers, B, heads, S, depth], in the order of [`source_cache`](Self::source_cache). Blocks get it from
    /// [`Place::of_source`].
    fn source<'g>(&self, _: &Scope<'g>, _: Tensor<'g>) -> Vec<Tensor<'g>> {
        vec![]
    }

    /// The sizes of that.
    fn source_cache(&self) -> Vec<Kept> {
        vec![]
    }

    /// Whether it has a head that guesses tokens.
    fn guesses(&self) -> bool {
        true
    }

    /// Logits [B, T, V] of what the blocks made, [B, T, C], of a model that guesses.
    fn head<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g>;

    /// What heads read of what the blocks made, [B, T, C]: of a model with a norm behind its blocks what that makes of it.
    fn normed<'g>(&self, _: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        x
    }

    /// A score for each of some classes, [B, 1, classes], of what speaks for a text as `head` says, [B, 1, C], [normed](Self::normed). The
    /// key seeds dropout.
    fn classes<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, head: Head, _: Option<Tensor<'g>>) -> Tensor<'g> {
        score(s, x, head.classes)
    }

    /// Why Hugging Face's libraries have no model with such a head of classes, if they have none.
    fn classes_to_hub(&self, pooling: Pooling) -> Result<(), String> {
        match pooling {
            Pooling::Last => Ok(()),
            Pooling::Mean | Pooling::First => Err(format!("classify.pooling is {pooling}, and there the last token speaks for a text")),
        }
    }

    /// What else it says of texts, each by a name of its own, from what the blocks made of them, [B, T, C].
    fn further<'g>(&self, _: &Scope<'g>, _: Tensor<'g>) -> Vec<(&'static str, Tensor<'g>)> {
        vec![]
    }

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
}

/// Which tokens a token sees, and so what a model can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Those before it and itself: it writes texts.
    Decoder,
    /// All: it reads texts.
    Encoder,
    /// A decoder that also sees what an encoder made of another text.
    EncoderDecoder,
}

/// What blocks make of tokens.
pub struct Hidden<'g> {
    /// Of each token, [B, T, C].
    pub x: Tensor<'g>,
    /// What is kept of the tokens, those before among them, where past tokens are kept at all: the new value of each of
    /// [`Architecture::cache`], in its order.
    pub kept: Vec<Tensor<'g>>,
    /// What else is noted of each layer for a loss of its own, stacked: [layers, …], one after the other as blocks give them.
    pub noted: Vec<Tensor<'g>>,
    /// Further losses, as numbers to add to the mean loss: how they are called, and each with its weight.
    pub losses: Vec<(&'static str, Tensor<'g>)>,
}

impl<'g> From<Tensor<'g>> for Hidden<'g> {
    /// What keeps nothing, notes nothing and has no loss of its own.
    fn from(x: Tensor<'g>) -> Hidden<'g> {
        Hidden { x, kept: vec![], noted: vec![], losses: vec![] }
    }
}

/// What a block makes of tokens.
pub struct Made<'g> {
    /// Of each token, [B, T, C].
    pub x: Tensor<'g>,
    /// What it keeps of the tokens, those before among them.
    pub kept: Vec<Tensor<'g>>,
    /// What else is noted of it, for a loss of its own.
    pub noted: Vec<Tensor<'g>>,
}

impl<'g> Made<'g> {
    /// A block's result and what it keeps.
    pub fn new(x: Tensor<'g>, kept: impl Into<Vec<Tensor<'g>>>) -> Made<'g> {
        Made { x, kept: kept.into(), noted: vec![] }
    }
}

/// Layers in a row, of which every `period`-th is alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layers {
    /// Number of the first.
    pub first: usize,
    /// How many there are.
    pub count: usize,
    /// Layers after which the pattern begins again.
    pub period: usize,
}

impl From<usize> for Layers {
    /// So many that are all alike.
    fn from(count: usize) -> Layers {
        Layers { first: 0, count, period: 1 }
    }
}

impl Layers {
    /// These with a pattern of so many.
    pub fn pattern(count: usize, period: usize) -> Layers {
        Layers { first: 0, count, period }
    }

    /// Loops over whole patterns, then the layers that are left, each by itself.
    pub fn runs(self) -> Vec<Places> {
        let whole = self.count / self.period.max(1);
        let left = self.first + whole * self.period;
        let pattern = Places { first: self.first, step: self.period, count: whole };
        let rest = (left..self.first + self.count).map(|first| Places { first, step: 1, count: 1 });
        (whole > 0).then_some(pattern).into_iter().chain(rest).collect()
    }
}

/// A loop as two, of which the second begins with the pattern that has the layer of a number; one of the two where that is outside of it.
pub(crate) fn divided(run: Places, layer: Option<usize>) -> impl Iterator<Item = Places> {
    let first = layer.map_or(0, |layer| (layer.saturating_sub(run.first) / run.step.max(1)).min(run.count));
    let parts = [Places { count: first, ..run }, Places { first: run.first + run.step * first, count: run.count - first, ..run }];
    parts.into_iter().filter(|part| part.count > 0)
}

/// A tensor that generation keeps, [layers, B, heads, length, depth], of which the places of tokens already read are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its name.
    pub name: &'static str,
    /// Number of the first layer that keeps it in this tensor, and how many there are to the next.
    pub place: names::Place,
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
    pub fn keys_and_values(layers: impl Into<Layers>, heads: usize, length: usize, depth: usize) -> Vec<Kept> {
        Kept::each(layers, &[("k", heads, depth), ("v", heads, depth)], length)
    }

    /// Keys and values of the text that a decoder sees beside its own.
    pub fn of_source(layers: impl Into<Layers>, heads: usize, length: usize, depth: usize) -> Vec<Kept> {
        Kept::each(layers, &[("source.k", heads, depth), ("source.v", heads, depth)], length)
    }

    /// What each layer keeps of a token, by name, heads and elements: a tensor for all layers that are alike.
    pub fn each(layers: impl Into<Layers>, what: &[(&'static str, usize, usize)], length: usize) -> Vec<Kept> {
        let run = |run: Places| (0..run.step).map(move |j| (run.count, names::Place { step: run.step, first: run.first + j }));
        let one = |(layers, place)| what.iter().map(move |(name, heads, depth)| Kept { name, place, layers, heads: *heads, length, depth: *depth });
        layers.into().runs().into_iter().flat_map(run).flat_map(one).collect()
    }

    /// The name of its state below [`names::PAST`]: `k`, or `k.{6i+1}` where only those layers keep it here.
    pub fn path(&self) -> String {
        if self.place == (names::Place { step: 1, first: 0 }) { self.name.into() } else { format!("{}.{}", self.name, self.place) }
    }
}

/// What a model reads.
#[derive(Clone)]
pub struct Reading<'g> {
    /// Ids [B, T], an `i32`.
    pub tokens: Tensor<'g>,
    /// Seeds dropout: a `u32`, there in training alone, so nothing is dropped outside it.
    pub key: Option<Tensor<'g>>,
    /// In generation: what is kept of the tokens before.
    pub past: Option<Kepts<'g>>,
    /// In rows that documents are packed into: which token is of which. There is no past then.
    pub documents: Option<Documents<'g>>,
    /// Where a text's beginning is seen by all of it: 1 where that is, `i32[B,T]`. There is no past then.
    pub prefix: Option<Tensor<'g>>,
    /// In rows that trees of texts are packed into, which begin alike. There are no documents then, and no past.
    pub branches: Option<Branches<'g>>,
    /// Where rows are filled up to one length: 1 where there is a token and 0 where there is none, `i32[B,T]`. There is no past then.
    pub mask: Option<Tensor<'g>>,
    /// Which of the segments a token is of, `i32[B,T]`, for a model that asks.
    pub types: Option<Tensor<'g>>,
    /// The text that a decoder sees beside its own.
    pub source: Option<Source<'g>>,
    /// The number of a layer with which another loop begins, so that those before it are one for themselves.
    pub divided: Option<usize>,
    /// What layers keep of tokens that stand before every text, each [layers, 1, heads, N, depth]. There is no past then, which would have it.
    pub before: Option<Leading<'g>>,
    /// What the embedding would be, [B, T, C], where it is known without. What layers keep is told then, as beside a past.
    pub embedded: Option<Tensor<'g>>,
}

/// What is kept of tokens before those that are read.
#[derive(Clone)]
pub struct Kepts<'g> {
    /// The position of the first token of each row, `i32[B]`.
    pub position: Tensor<'g>,
    /// What is kept, each [layers, B, heads, length, depth].
    pub tensors: Vec<(Kept, Tensor<'g>)>,
}

/// What layers keep of tokens that stand before every text.
#[derive(Clone)]
pub struct Leading<'g> {
    /// How many tokens.
    pub tokens: usize,
    /// What is kept, in the order of the cache; in a block what that one keeps, [1, heads, N, depth].
    pub kept: Vec<(Kept, Tensor<'g>)>,
}

/// The text that a decoder sees beside its own.
#[derive(Clone)]
pub struct Source<'g> {
    /// What is known of it.
    pub text: Encoded<'g>,
    /// 1 where there is a token, `i32[B,S]`.
    pub mask: Option<Tensor<'g>>,
}

/// What is known of a text that was encoded.
#[derive(Clone)]
pub enum Encoded<'g> {
    /// What the encoder made of each token, [B, S, C].
    Tokens(Tensor<'g>),
    /// What is kept of it, each [layers, B, heads, S, depth]; in a block what that one keeps, [B, heads, S, depth].
    Kept(Vec<(Kept, Tensor<'g>)>),
}

/// The documents that rows are packed with.
#[derive(Clone, Copy)]
pub struct Documents<'g> {
    /// Each token's document: `i32[B,T]`, of a row alike where two tokens are of one.
    pub ids: Tensor<'g>,
    /// Where in it the token stands: `i32[B,T]`.
    pub positions: Tensor<'g>,
}

/// Texts that begin alike, as trees: the tokens that they share stand in a row once, and a token sees those that lead to it. Rows have the
/// tokens in the order of a walk: each before what follows it.
#[derive(Clone, Copy)]
pub struct Branches<'g> {
    /// Where in its row the tokens end that come after each, itself among them: `i32[B,T]`.
    pub until: Tensor<'g>,
    /// Where in its text each stands: `i32[B,T]`.
    pub positions: Tensor<'g>,
}

/// More tokens than a row has.
const EVERY: i32 = 1 << 29;

/// Where a block stands.
#[derive(Clone)]
pub struct Place<'g> {
    /// Number of a layer that this one is alike.
    pub layer: usize,
    /// Seeds this block's dropout; it may add 0 to 7 for its several places.
    pub key: Option<Tensor<'g>>,
    /// What this block keeps of the tokens before.
    pub past: Option<Past<'g>>,
    /// The documents that rows are packed with.
    pub documents: Option<Documents<'g>>,
    /// 1 where a token is seen by all, `i32[B,T]`, where a text's beginning is.
    pub prefix: Option<Tensor<'g>>,
    /// The trees of texts that rows are packed with.
    pub branches: Option<Branches<'g>>,
    /// 1 where there is a token, `i32[B,T]`, where rows are filled up.
    pub mask: Option<Tensor<'g>>,
    /// The text that this decoder sees beside its own.
    pub source: Option<Source<'g>>,
    /// What this block keeps of tokens that stand before every text.
    pub before: Option<Leading<'g>>,
}

impl<'g> Place<'g> {
    /// How many tokens stand before every text, of which what is kept is no past's.
    fn leading(&self) -> usize {
        self.before.as_ref().map_or(0, |before| before.tokens)
    }

    /// Whether more is seen than these tokens, of which what is kept is there alone.
    pub fn sees_kept(&self) -> bool {
        self.past.is_some() || self.before.is_some()
    }

    /// What is known of each token of rows [B, T], and of each that stands before them: [B, S].
    #[track_caller]
    fn of_all(&self, x: Tensor<'g>, of_leading: Tensor<'g>) -> Tensor<'g> {
        match self.leading() {
            0 => x,
            n => of_leading.broadcast((x.dim(-2), n)).concat(-1, x),
        }
    }

    /// What this block keeps of the text that its decoder sees: as it was kept, or made of what the encoder made, [B, S, C].
    ///
    /// # Panics
    /// Where there is no such text: a model with an encoder is read with one.
    pub fn of_source<const N: usize>(&self, make: impl FnOnce(Tensor<'g>) -> [Tensor<'g>; N]) -> [Tensor<'g>; N] {
        match &self.source.as_ref().expect("a decoder that sees another text is given it").text {
            Encoded::Tokens(x) => make(*x),
            Encoded::Kept(all) => std::array::from_fn(|i| all[i].1),
        }
    }

    /// Scores [B, H, T, S] of what is no token of that text become −∞; of a text of no token at all every one is seen.
    #[track_caller]
    pub fn in_source(&self, s: &Scope<'g>, scores: Tensor<'g>) -> Tensor<'g> {
        let mask = self.source.as_ref().and_then(|source| source.mask);
        mask.map_or(scores, |mask| of_tokens(s, scores, or_all(s, mask), None))
    }

    /// Keys and values of these tokens, [B, H, T, D], and of those before: [B, H, S, D].
    #[track_caller]
    pub fn with_past(&self, k: Tensor<'g>, v: Tensor<'g>) -> [Tensor<'g>; 2] {
        let all = self.with_kept(&[k, v]);
        [all[0], all[1]]
    }

    /// The same for anything that is kept a token, in the order of the cache.
    #[track_caller]
    pub fn with_kept(&self, new: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let behind = |((_, before), new): (&(Kept, Tensor<'g>), &Tensor<'g>)| {
            before.broadcast((new.dim(-4), before.dim(-3), before.dim(-2), before.dim(-1))).concat(-2, *new)
        };
        match (&self.past, &self.before) {
            (Some(past), _) => past.with(new),
            (None, Some(before)) => before.kept.iter().zip(new).map(behind).collect(),
            (None, None) => new.to_vec(),
        }
    }

    /// Scores [B, H, T, S] of tokens after the one that asks, but for a beginning that all see, of other documents' tokens and of none become −∞. A token sees itself,
    /// whatever it is, so that no row of scores is empty.
    #[track_caller]
    pub fn visible(&self, s: &Scope<'g>, scores: Tensor<'g>) -> Tensor<'g> {
        let (query, key) = (self.query(s, scores), s.iota(-1, scores.dim(-1)));
        let none = s.num(f64::NEG_INFINITY);
        let later = self.prefix.map_or(none, |prefix| of_tokens(s, scores, self.of_all(prefix, s.int(1)), None));
        let scores = self.own_document(s, key.le(query).select(scores, later));
        let scores = self.branches.map_or(scores, |b| {
            let until = self.of_all(self.behind(s, b.until), s.int(EVERY));
            query.lt(of_keys(until)).select(scores, none)
        });
        self.mask.map_or(scores, |mask| of_tokens(s, scores, self.of_all(mask, s.int(1)), Some(key.equals(query))))
    }

    /// The same, and of all but the last `window` tokens, itself among them.
    #[track_caller]
    pub fn within(&self, s: &Scope<'g>, scores: Tensor<'g>, window: usize) -> Tensor<'g> {
        let (query, key) = self.stands(s, scores);
        let last = query.lt(key + s.int(window as i32));
        self.visible(s, last.select(scores, s.num(f64::NEG_INFINITY)))
    }

    /// Scores [B, H, T, T] of tokens of other documents and of none become −∞: all others are seen, and of a text of no token at all every
    /// one.
    #[track_caller]
    pub fn there(&self, s: &Scope<'g>, scores: Tensor<'g>) -> Tensor<'g> {
        let scores = self.own_document(s, scores);
        self.mask.map_or(scores, |mask| of_tokens(s, scores, or_all(s, mask), None))
    }

    /// What stands before every text is of every document.
    #[track_caller]
    fn own_document(&self, s: &Scope<'g>, scores: Tensor<'g>) -> Tensor<'g> {
        let Some(Documents { ids: documents, .. }) = self.documents else { return scores };
        if self.before.is_none() {
            return within_documents(s, scores, documents);
        }
        let own = of_queries(documents).equals(of_keys(self.of_all(documents, s.int(0))));
        let first = s.iota(-1, scores.dim(-1)).lt(s.int(self.leading() as i32));
        first.select(scores, own.select(scores, s.num(f64::NEG_INFINITY)))
    }

    /// Places in rows, or positions, counted from the first of what stands before them.
    #[track_caller]
    fn behind(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        match self.leading() {
            0 => x,
            n => x + s.int(n as i32),
        }
    }

    /// Where those who ask and the keys stand in their text, as they broadcast over scores [B, H, T, S]: what is asked of how far they are
    /// from each other is asked of these.
    #[track_caller]
    pub fn stands(&self, s: &Scope<'g>, scores: Tensor<'g>) -> (Tensor<'g>, Tensor<'g>) {
        let in_rows = || (self.query(s, scores), s.iota(-1, scores.dim(-1)));
        // documents of a row stand each as near to what stands before all
        let of_documents = self.documents.filter(|_| self.leading() > 0).map(|d| d.positions);
        self.branches.map(|b| b.positions).or(of_documents).map_or_else(in_rows, |positions| {
            let positions = self.behind(s, positions);
            (of_queries(positions), of_keys(self.of_all(positions, s.iota(-1, self.leading().max(1)))))
        })
    }

    /// The places in their row of those who ask, as they broadcast over scores [B, H, T, S].
    #[track_caller]
    pub fn query(&self, s: &Scope<'g>, scores: Tensor<'g>) -> Tensor<'g> {
        let query = self.behind(s, s.iota(-2, scores.dim(-2)));
        self.past.as_ref().map_or(query, |past| past.first() + query)
    }
}

impl<'g> Reading<'g> {
    /// A whole sequence, with nothing before it and nothing dropped.
    pub fn of(tokens: Tensor<'g>) -> Reading<'g> {
        Reading {
            tokens,
            key: None,
            past: None,
            documents: None,
            branches: None,
            prefix: None,
            mask: None,
            types: None,
            source: None,
            divided: None,
            before: None,
            embedded: None,
        }
    }

    /// What the embedding is of the tokens, [B, T, C], as `embed` says of ids [B, T].
    #[track_caller]
    pub fn embed(&self, embed: impl FnOnce(Tensor<'g>) -> Tensor<'g>) -> Tensor<'g> {
        self.embedded.unwrap_or_else(|| embed(self.tokens))
    }

    /// The tokens' positions: `[T]`, or `[B, T]` where each row has its own, in generation and in rows of documents.
    #[track_caller]
    pub fn positions(&self, s: &Scope<'g>) -> Tensor<'g> {
        self.own_positions(s).unwrap_or_else(|| self.places(s, -1, 1))
    }

    /// The same as they broadcast over heads [B, H, T, D]: [T, 1], or [B, 1, T, 1].
    #[track_caller]
    pub fn head_positions(&self, s: &Scope<'g>) -> Tensor<'g> {
        let (b, t) = (self.tokens.dim(-2), self.tokens.dim(-1));
        self.own_positions(s).map_or_else(|| self.places(s, -2, 3), |positions| positions.reshape((b, 1usize, t, 1usize)))
    }

    /// The positions that rows of several texts say, `i32[B,T]`, behind what stands before each.
    #[track_caller]
    fn own_positions(&self, s: &Scope<'g>) -> Option<Tensor<'g>> {
        self.documents.map(|d| d.positions).or(self.branches.map(|b| b.positions)).map(|positions| self.behind(s, positions))
    }

    #[track_caller]
    fn behind(&self, s: &Scope<'g>, positions: Tensor<'g>) -> Tensor<'g> {
        self.before.as_ref().map_or(positions, |before| positions + s.int(before.tokens as i32))
    }

    /// Positions along an axis; each row's own have so many axes behind the rows'.
    #[track_caller]
    fn places(&self, s: &Scope<'g>, axis: i8, behind: usize) -> Tensor<'g> {
        let places = self.behind(s, s.iota(axis, self.tokens.dim(-1)));
        self.past.as_ref().map_or(places, |past| beside(past.position, behind) + places)
    }

    /// `x` after layers, each with its own parameters under `name.{}`, and what they keep and note, stacked. Layers that are alike are one
    /// loop; `block` is asked for each place of the pattern, and for each layer that is left behind the last whole one.
    #[track_caller]
    pub fn blocks(
        &self,
        s: &Scope<'g>,
        name: &str,
        layers: impl Into<Layers>,
        x: Tensor<'g>,
        block: impl Fn(&Scope<'g>, Tensor<'g>, Place<'g>) -> Made<'g>,
    ) -> Hidden<'g> {
        let mut all = Hidden::from(x);
        for run in layers.into().runs().into_iter().flat_map(|run| divided(run, self.divided)) {
            let next = self.run(s, name, run, all.x, &block);
            all.x = next.x;
            all.kept.extend(next.kept);
            all.noted.extend(next.noted);
        }
        all
    }

    fn kept_of_source(&self) -> &[(Kept, Tensor<'g>)] {
        match self.source.as_ref().map(|source| &source.text) {
            Some(Encoded::Kept(all)) => all,
            Some(Encoded::Tokens(_)) | None => &[],
        }
    }

    /// One loop over a pattern.
    #[track_caller]
    fn run(
        &self,
        s: &Scope<'g>,
        name: &str,
        run: Places,
        x: Tensor<'g>,
        block: &dyn Fn(&Scope<'g>, Tensor<'g>, Place<'g>) -> Made<'g>,
    ) -> Hidden<'g> {
        // each layer's share of what is kept, its own, of a source and of what stands before all, then the numbers that move the key, so that no
        // two layers drop alike
        let mut own: Vec<Tensor<'g>> = vec![];
        let mut shares = vec![];
        for j in 0..run.step {
            let before = own.len();
            let here = |kept: &&(Kept, Tensor<'g>)| kept.0.place.first == run.first + j;
            own.extend(self.past.iter().flat_map(|p| &p.tensors).filter(here).map(|kept| kept.1));
            let middle = own.len();
            let of_source: Vec<(Kept, Tensor<'g>)> = self.kept_of_source().iter().filter(here).copied().collect();
            own.extend(of_source.iter().map(|kept| kept.1));
            let last = own.len();
            let leading: Vec<(Kept, Tensor<'g>)> = self.before.iter().flat_map(|b| &b.kept).filter(here).copied().collect();
            own.extend(leading.iter().map(|kept| kept.1));
            shares.push((before..middle, (middle, of_source), (last, leading)));
        }
        let numbers = self.key.map(|_| s.iota(-1, run.count).cast(DType::U32));
        own.extend(numbers);
        let (mut kept, mut noted) = (0, 0);
        let (x, results) = s.pattern(name, run, x, &own, |scopes, mut x, own| {
            let (mut all_kept, mut all_noted) = (vec![], vec![]);
            let given = |(first, all): (usize, Vec<(Kept, Tensor<'g>)>)| all.iter().zip(&own[first..]).map(|((kept, _), x)| (*kept, *x)).collect();
            for (j, (s, (share, of_source, leading))) in scopes.iter().zip(shares).enumerate() {
                let key = self.key.map(|key| {
                    let number = own[own.len() - 1] * s.uint(run.step as u32) + s.uint((run.first + j) as u32);
                    key + (number + s.uint(1)) * s.uint(8)
                });
                let past = self.past.as_ref().map(|p| Past { kept: own[share].to_vec(), position: p.position });
                let source = self.source.clone().map(|source| match source.text {
                    Encoded::Tokens(_) => source,
                    Encoded::Kept(_) => Source { text: Encoded::Kept(given(of_source)), ..source },
                });
                let before = self.before.as_ref().map(|b| Leading { kept: given(leading), ..b.clone() });
                let (documents, branches, prefix, mask) = (self.documents, self.branches, self.prefix, self.mask);
                let place = Place { layer: run.first + j, key, past, documents, branches, prefix, mask, source, before };
                let made = block(s, x, place);
                x = made.x;
                all_kept.extend(made.kept.into_iter().filter(|_| self.past.is_some() || self.embedded.is_some()));
                all_noted.extend(made.noted);
            }
            (kept, noted) = (all_kept.len(), all_noted.len());
            all_kept.append(&mut all_noted);
            (x, all_kept)
        });
        debug_assert_eq!(results.len(), kept + noted);
        Hidden { x, kept: results[..kept].to_vec(), noted: results[kept..].to_vec(), losses: vec![] }
    }
}
