//! A model by name: the mathematics behind one handle, with its settings.

use crate::adaptation::Adaptation;
use crate::architecture::{Architecture, Encoded, Hidden, Kept, Kepts, Kind, Leading, Reading, Shape, Source, divided};
use crate::before::{Alike, Before, Learned};
use crate::heads::{Head, Pooling, pooled};
use crate::hub::{self, Fields, Written};
use crate::init::Init;
use crate::layers::nth;
use ir::names::{self, PAST};
use ir::{Builder, DType, Dim, Graph, ModelErrors, Places, Scope, Tensor};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt;
use std::sync::Arc;

/// A row of the list of models.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    name: fn() -> &'static str,
    /// What it was called in files of earlier versions.
    formerly: Option<&'static str>,
    read: fn(toml::Table) -> Result<Model, String>,
    hub: fn() -> &'static [&'static str],
    from_hub: fn(hub::Config) -> Result<Model, String>,
}

impl Entry {
    /// The row of a model, whose default is its settings where none are given.
    pub const fn of<M: Architecture + Default + Serialize + DeserializeOwned + 'static>() -> Entry {
        Entry {
            name: M::name,
            formerly: None,
            read: |settings| settings.try_into::<M>().map_err(|e| e.message().to_string()).and_then(Model::of),
            hub: M::hub,
            from_hub: |mut config| {
                let model = M::from_hub(&mut config)?;
                config.finish()?;
                Model::of(model)
            },
        }
    }

    /// The same row, which answers to an earlier name, too.
    pub const fn formerly(self, name: &'static str) -> Entry {
        Entry { formerly: Some(name), ..self }
    }

    /// The name people call it by.
    pub fn name(&self) -> &'static str {
        (self.name)()
    }

    /// Whether a name is this model's, now or formerly.
    pub fn answers(&self, name: &str) -> bool {
        self.name() == name || self.formerly == Some(name)
    }

    /// The model at its default size.
    pub fn default(&self) -> Result<Model, String> {
        self.model(toml::Table::new())
    }

    /// The model with these settings, others as they are by default. They are not checked yet.
    pub fn model(&self, settings: toml::Table) -> Result<Model, String> {
        (self.read)(settings)
    }

    /// The names that Hugging Face's `architectures` have for this model.
    pub fn hub(&self) -> &'static [&'static str] {
        (self.hub)()
    }

    /// The model of a `config.json` that has one of these names. Ranges are not checked yet.
    /// Some follow from which tensors there are, too, where that is known.
    pub fn from_hub(&self, fields: &Fields, tensors: Option<&dyn Fn(&str) -> bool>) -> Result<Model, String> {
        let config = hub::Config::of(fields);
        (self.from_hub)(tensors.map_or(hub::Config::of(fields), |there| config.with(there)))
    }
}

/// A model with its settings.
#[derive(Clone)]
pub struct Model {
    name: &'static str,
    settings: toml::Table,
    read: fn(toml::Table) -> Result<Model, String>,
    mathematics: Arc<dyn Architecture>,
    /// The most tokens that generation keeps.
    room: usize,
    /// What every program of it is changed by.
    adaptation: Option<Arc<dyn Adaptation>>,
    /// The number of the layer with which another loop begins.
    divided: Option<usize>,
}

impl PartialEq for Model {
    fn eq(&self, other: &Model) -> bool {
        self.name == other.name && self.settings == other.settings
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.mathematics.fmt(f)
    }
}

impl<M: Architecture + Default + Serialize + DeserializeOwned + 'static> From<M> for Model {
    /// A model whose settings have a TOML form, as those do that are read from one.
    fn from(model: M) -> Model {
        Model::of(model).expect("its settings have a TOML form")
    }
}

impl Model {
    fn of<M: Architecture + Default + Serialize + DeserializeOwned + 'static>(model: M) -> Result<Model, String> {
        let settings = toml::Table::try_from(&model).map_err(|e| format!("the settings of {} have no TOML form: {e}", M::name()))?;
        Ok(Model {
            name: M::name(),
            settings,
            read: Entry::of::<M>().read,
            mathematics: Arc::new(model),
            room: usize::MAX,
            adaptation: None,
            divided: None,
        })
    }

    /// The name people call it by.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its settings, by name.
    pub fn settings(&self) -> &toml::Table {
        &self.settings
    }

    /// The same model, every program of which is changed so; none for the model alone. Other settings make it the model alone again.
    pub fn adapted(&self, adaptation: Option<Arc<dyn Adaptation>>) -> Model {
        Model { adaptation, ..self.clone() }
    }

    /// What its programs are changed by.
    pub fn adaptation(&self) -> Option<&Arc<dyn Adaptation>> {
        self.adaptation.as_ref()
    }

    /// The program of a builder that this model was written into. It is to learn, or to be looked at.
    #[track_caller]
    pub fn finish(&self, b: Builder, learning: bool) -> Result<Graph, String> {
        let graph = b.finish().map_err(|e| e.to_string())?;
        self.adaptation.as_ref().map_or(Ok(graph.clone()), |a| a.apply(&graph, learning))
    }

    /// The same model with other settings.
    pub fn with(&self, settings: toml::Table) -> Result<Model, String> {
        (self.read)(settings)
    }

    /// The same model for another number of tokens.
    pub fn with_vocabulary(&self, tokens: usize) -> Result<Model, String> {
        let mut settings = self.settings.clone();
        match settings.get_mut(VOCABULARY) {
            Some(n) => *n = toml::Value::Integer(tokens as i64),
            None => return Err(format!("the model {} has no setting {VOCABULARY}: give it one", self.name)),
        }
        self.with(settings).map(|model| model.divided(self.divided))
    }

    /// The same model, whose layers from a number on are a loop of their own: what is only done to these, such as training, costs nothing in
    /// those before. Tensors of files have the same names.
    pub fn divided(&self, layer: Option<usize>) -> Model {
        Model { divided: layer, ..self.clone() }
    }

    /// Which tokens a token sees.
    pub fn kind(&self) -> Kind {
        self.mathematics.kind()
    }

    /// What generation keeps of the tokens before.
    pub fn cache(&self) -> Vec<Kept> {
        let room = self.room.saturating_add(self.before().map_or(0, |b| b.tokens));
        let fits = |k: Kept| Kept { length: k.length.min(room), ..k };
        let (mut all, mut start) = (vec![], 0);
        for k in self.mathematics.cache().into_iter().map(fits) {
            // what the layers of one pattern keep stands together, the first layer's first
            if !(start..start + k.place.step).contains(&k.place.first) {
                start = k.place.first;
            }
            let run = Places { first: start, step: k.place.step, count: k.layers };
            let part = |p: Places| Kept { place: names::Place { first: p.first + k.place.first - start, ..k.place }, layers: p.count, ..k };
            all.extend(divided(run, self.divided).map(part));
        }
        // one loop's after another's
        all.sort_by_key(|k| k.place.first);
        all
    }

    /// The same model, where generation has room for so many tokens at least, or for as many as the model has positions: what is kept takes
    /// memory, filled or not. Rooms are few sizes, each of which is compiled once.
    pub fn with_room(&self, tokens: usize) -> Model {
        Model { room: tokens.clamp(1, 1 << 40).next_power_of_two().max(SMALLEST_ROOM), ..self.clone() }
    }

    /// What the blocks make of tokens, and what they keep.
    pub fn hidden<'g>(&self, s: &Scope<'g>, read: &Reading<'g>) -> Hidden<'g> {
        let before = if read.past.is_none() { self.leading(s) } else { None };
        self.mathematics.hidden(s, &Reading { divided: self.divided, before, ..read.clone() })
    }

    /// The tokens that stand before every text.
    pub fn before(&self) -> Option<Before> {
        self.adaptation.as_ref().and_then(|a| a.before())
    }

    /// What layers keep of these.
    fn leading<'g>(&self, s: &Scope<'g>) -> Option<Leading<'g>> {
        let Before { tokens, learned, path } = self.before()?;
        let kept = match learned {
            Learned::Kept => {
                let alike = Alike::of(&self.cache()).expect("a model is asked first whether its layers keep alike");
                alike.split(s.param(&path, [tokens, alike.width()]), tokens, &self.cache())
            }
            Learned::Embedding(width) => {
                let embedded = Some(s.param(&path, [tokens, width]).reshape([1, tokens, width]));
                let read = Reading { embedded, divided: self.divided, ..Reading::of(s.iota(-1, tokens).reshape([1, tokens])) };
                self.cache().into_iter().zip(self.mathematics.hidden(s, &read).kept).collect()
            }
        };
        Some(Leading { tokens, kept })
    }

    /// What an encoder makes of a text that a decoder sees, [B, S, C].
    pub fn encode<'g>(&self, s: &Scope<'g>, read: &Reading<'g>) -> Option<Tensor<'g>> {
        self.mathematics.encode(s, read)
    }

    /// What generation keeps of a text that is answered.
    pub fn source_cache(&self) -> Vec<Kept> {
        self.mathematics.source_cache()
    }

    /// Whether it has a head that guesses tokens.
    pub fn guesses(&self) -> bool {
        self.mathematics.guesses()
    }

    /// Logits [B, T, V] of what the blocks made, of a model that guesses.
    pub fn head<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        self.mathematics.head(s, x)
    }

    /// What heads read of what the blocks made.
    pub fn normed<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        self.mathematics.normed(s, x)
    }

    /// A score for each class, [B, 1, classes], of what the blocks made of texts, [B, T, C], where the mask `i32[B,T]` says there is a token.
    pub fn classes<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, head: Head, mask: Option<Tensor<'g>>, key: Option<Tensor<'g>>) -> Tensor<'g> {
        let speaks = pooled(s, self.normed(s, x), mask, head.pooling);
        self.mathematics.classes(s, speaks, head, key)
    }

    /// Why Hugging Face's libraries have no model with such a head of classes, if they have none.
    pub fn classes_to_hub(&self, pooling: Pooling) -> Result<(), String> {
        self.mathematics.classes_to_hub(pooling)
    }

    /// What else it says of texts, by name, from what the blocks made of them.
    pub fn further<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Vec<(&'static str, Tensor<'g>)> {
        self.mathematics.further(s, x)
    }

    /// The program that reads T more tokens of each row: inputs `input_ids` `i32[B,T]`, `position` `i32[B]`, which is where each row's first
    /// stands, and `last` `i32[B]`, the number of the one whose `logits` `[B,1,V]` are wanted; state `past.<name>` for all that is kept;
    /// outputs `logits` and the new state. Of a model that answers a text also what is kept of that, which is read and not written, and the
    /// input `attention_mask` `i32[B,n]` for as many tokens as there is room for: 1 where the text has one.
    pub fn step_graph(&self) -> Result<Graph, String> {
        let b = Builder::default();
        let s = b.scope();
        let (batch, length) = (Dim::sym('B'), Dim::sym('T'));
        let tokens = s.input("input_ids", DType::I32, (batch, length));
        let position = s.input("position", DType::I32, [batch]);
        let last = s.input("last", DType::I32, [batch]);
        // behind what stands before the text, of which the past keeps the same
        let position = self.before().map_or(position, |before| position + s.int(before.tokens as i32));
        let past = Some(Kepts { position, tensors: kept(&s, self.cache()) });
        let source = self.source_cache().first().map(|first| {
            let mask = s.input("attention_mask", DType::I32, (batch, first.length));
            Source { text: Encoded::Kept(kept(&s, self.source_cache())), mask: Some(mask) }
        });
        let hidden = self.hidden(&s, &Reading { past, source, ..Reading::of(tokens) });
        b.output("logits", self.head(&s, nth(&s, hidden.x, last)));
        keep(&b, &self.cache(), hidden.kept);
        self.finish(b, false)
    }

    /// The program that reads what stands before every text, in each of B rows: what is kept of it is state, whose new values are the outputs.
    /// There are none of a model before whose texts nothing stands.
    pub fn begin_graph(&self) -> Result<Graph, String> {
        let b = Builder::default();
        let s = b.scope();
        if let Some(before) = self.leading(&s) {
            let all = kept(&s, self.cache());
            let new = all.iter().zip(before.kept).map(|((_, old), (_, new))| old.update(-2, of_rows(new), s.int(0))).collect();
            keep(&b, &self.cache(), new);
        }
        self.finish(b, false)
    }

    /// The program that encodes a text of S tokens for each row to answer: inputs `input_ids` and `attention_mask` `i32[B,S]`, which is 1 where
    /// there is a token; what is kept of it is state, whose new values are the outputs. There are none of a model that answers no text.
    pub fn encode_graph(&self) -> Result<Graph, String> {
        let b = Builder::default();
        let s = b.scope();
        let shape = (Dim::sym('B'), Dim::sym('S'));
        let tokens = s.input("input_ids", DType::I32, shape);
        let mask = Some(s.input("attention_mask", DType::I32, shape));
        if let Some(x) = self.encode(&s, &Reading { mask, ..Reading::of(tokens) }) {
            let all = kept(&s, self.source_cache());
            let new = all.iter().zip(self.mathematics.source(&s, x)).map(|((_, old), new)| old.update(-2, new, s.int(0))).collect();
            keep(&b, &self.source_cache(), new);
        }
        self.finish(b, false)
    }

    /// The program that lets each row go on from what another has read: input `rows` `i32[B]`, the numbers of those; all that is kept is
    /// state, whose new values are the outputs.
    pub fn reorder_graph(&self) -> Result<Graph, ModelErrors> {
        let b = Builder::default();
        let s = b.scope();
        let rows = s.input("rows", DType::I32, [Dim::sym('B')]);
        let turned = [1, 0, 2, 3, 4]; // rows first, and back
        let new = kept(&s, self.cache()).into_iter().map(|(_, x)| x.transpose(&turned).gather(rows).transpose(&turned)).collect();
        keep(&b, &self.cache(), new);
        b.finish()
    }

    /// How a parameter starts.
    pub fn init(&self, path: &str) -> Init {
        self.adaptation.as_ref().and_then(|a| a.init(path)).unwrap_or_else(|| self.mathematics.init(path))
    }

    /// Why its settings are no model, if they are none.
    pub fn check(&self) -> Result<(), String> {
        self.mathematics.check()
    }

    /// Its settings as Hugging Face's `config.json` has them, or why there is no such model there.
    pub fn to_hub(&self) -> Result<Written, String> {
        self.mathematics.to_hub()
    }

    /// Its sizes.
    pub fn shape(&self) -> Shape {
        self.mathematics.shape()
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.shape().vocabulary
    }

    /// Longest context.
    pub fn context(&self) -> usize {
        self.shape().context.saturating_sub(self.before().map_or(0, |b| b.tokens)).min(self.room)
    }

    /// The probability of dropout in training.
    pub fn dropout(&self) -> f64 {
        self.shape().dropout
    }
}

/// The least room, in tokens.
const SMALLEST_ROOM: usize = 256;

/// State for what is kept, of B rows.
fn kept<'g>(s: &Scope<'g>, all: Vec<Kept>) -> Vec<(Kept, Tensor<'g>)> {
    let size = |n: usize| Dim::from(n);
    let state = |k: Kept| (k, s.at(PAST).param(&k.path(), (size(k.layers), Dim::sym('B'), size(k.heads), size(k.length), size(k.depth))));
    all.into_iter().map(state).collect()
}

/// What is kept of one row, [layers, 1, heads, N, depth], for each of B.
fn of_rows(x: Tensor) -> Tensor {
    x.broadcast((x.dim(-5), Dim::sym('B'), x.dim(-3), x.dim(-2), x.dim(-1)))
}

/// Names the new values of what is kept.
fn keep(b: &Builder, all: &[Kept], new: Vec<Tensor>) {
    for (kept, new) in all.iter().zip(new) {
        b.output(&names::new_value(&format!("{PAST}.{}", kept.path())), new);
    }
}

/// The setting that every model has.
const VOCABULARY: &str = "vocab_size";
