//! What a model is trained to do: a model becomes a program with a loss.

mod distill;
mod policy;
mod preference;

pub(crate) use distill::TEACHER;
pub(crate) use policy::{ADVANTAGES, OLD, RETURNS, START, VALUES, rewards as reward_program, said as said_program};
pub(crate) use preference::{GOOD, REFERENCE, reference as reference_program};

use crate::config::{Aim, Config};
use crate::data::target;
use crate::error::{Error, Result};
use ir::names::LOSS;
use ir::{Builder, DType, Dim, Graph, NodeId, Op, Tensor, Type};
use models::heads::confusion;
use models::{
    Documents, Encoded, Head, Kind, Model, Reading, Source,
    losses::{self, Loss, Terms},
};

/// What a model is trained to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Objective {
    /// To guess each token's successor.
    #[default]
    NextToken,
    /// The same in rows that whole documents are packed into: each is read as if it stood alone.
    NextInDocument,
    /// To guess tokens that are hidden, by all the others.
    Masked,
    /// To guess each token's successor in a text that answers another.
    Answer,
    /// To say which of some classes a text is of.
    Classes(Head),
    /// To say which of two answers people preferred, as `[preference]` has it.
    Preferences,
    /// To say what an answer is worth, by pairs of which people preferred one.
    Rewards,
    /// To write answers that are worth more, as `[policy]` has it.
    Policy,
    /// To say what another model says, as `[distill]` has it.
    Imitation,
}

/// Results of a program that looks: rows whose labels are all the likeliest, and rows that are asked anything.
pub const EXACT: [&str; 2] = ["exact.sum", "exact.count"];
/// Results of one that looks at pairs of segments: the loss of whether the second follows, and how often that is asked.
pub const SENTENCE: [&str; 2] = ["next_sentence.sum", "next_sentence.count"];
/// A result of one that looks at classes: how often a text of each was taken for each, as [`models::heads::confusion`] counts it.
pub const CONFUSION: &str = "confusion";
/// What is read where that is asked; the weight in training alone.
const SENTENCES: [&str; 4] = ["attention_mask", "token_type_ids", "next_sentence_label", "next_sentence_weight"];

/// What a program says besides the usual.
#[derive(Clone, Copy, Default)]
struct With {
    /// What is added to the loss.
    terms: Terms,
    /// Which rows are wholly right.
    exact: bool,
    /// Which classes are taken for which.
    confusion: bool,
    /// Whatever else the model says.
    all: bool,
}

/// What a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Learning: with dropout, where the model has any.
    Train,
    /// Looking: nothing is dropped.
    Evaluate,
}

impl Objective {
    /// What a model of a kind is trained to do unless said.
    pub fn of(model: &Model) -> Objective {
        match model.kind() {
            Kind::Decoder => Objective::NextToken,
            Kind::Encoder => Objective::Masked,
            Kind::EncoderDecoder => Objective::Answer,
        }
    }

    /// The columns of a batch that the program reads: tokens first, and each as long as they are but those of a [source](Self::is_source).
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Objective::NextToken | Objective::Masked => &["input_ids", "labels"],
            Objective::NextInDocument => &["input_ids", "labels", "document_ids", "position_ids"],
            Objective::Answer => &["decoder_input_ids", "labels", "input_ids"],
            Objective::Classes(_) => &["input_ids", "labels", "attention_mask"],
            Objective::Preferences | Objective::Rewards => &preference::COLUMNS,
            Objective::Policy => &["input_ids", "labels", ADVANTAGES],
            Objective::Imitation => &["input_ids", "labels", TEACHER],
        }
    }

    /// Further columns it may read.
    pub fn optional(self) -> &'static [&'static str] {
        match self {
            Objective::NextToken => &["attention_mask", "prefix_mask"],
            Objective::Answer => &["attention_mask"],
            Objective::NextInDocument | Objective::Rewards | Objective::Imitation => &[],
            Objective::Preferences => &[REFERENCE, GOOD],
            Objective::Policy => &[OLD, START, VALUES, RETURNS],
            Objective::Classes(_) => &["token_type_ids", "label_weights"],
            Objective::Masked => &["attention_mask", "token_type_ids", "next_sentence_label", "next_sentence_weight"],
        }
    }

    /// Whether a column is as long as the text that is answered, S, and not as the tokens that are guessed, T.
    pub fn is_source(self, column: &str) -> bool {
        self == Objective::Answer && ["input_ids", "attention_mask"].contains(&column)
    }

    /// Whether a column has one element a row.
    pub fn is_of_row(self, column: &str) -> bool {
        let classes = matches!(self, Objective::Classes(_));
        classes && column == "labels" || ["next_sentence_label", "next_sentence_weight", "label_weights"].contains(&column)
    }

    /// The program that reads the columns and no others, as [`graph_of`](Self::graph_of) makes it.
    pub fn graph(self, model: &Model, mode: Mode) -> Result<Graph> {
        self.graph_of(model, mode, &[])
    }

    /// The program: inputs are the columns, those of the optional ones that are named, each `i32[B,T]` or of a source `i32[B,S]`, and, where
    /// something is dropped, `key`, a `u32`; results are `logits` `f32[B,T,V]`, `loss.sum` and `loss.count`. Documents are refused where
    /// the model takes no notice of them, for then they would see each other; and so are columns that it does not read.
    pub fn graph_of(self, model: &Model, mode: Mode, further: &[&str]) -> Result<Graph> {
        let columns: Vec<&str> = self.columns().iter().chain(further).copied().collect();
        self.build(model, mode, &columns, With::default())
    }

    /// The program of all that a model says of texts: inputs are these of the columns, the tokens among them; results are `logits` of a model
    /// that guesses, what else it says, and, with `labels`, the loss.
    pub fn results(self, model: &Model, columns: &[&str]) -> Result<Graph> {
        self.build(model, Mode::Evaluate, columns, With { all: true, ..With::default() })
    }

    /// The program that a configuration asks for, for `batch` rows of `context` tokens: results are those of the loss and, of a program that
    /// looks at answers, `exact.sum` and `exact.count`. What is added to the loss is added in training alone,
    /// so that held-out losses are nats a token whatever was added.
    pub fn configured(config: &Config, mode: Mode, batch: usize, context: usize) -> Result<Graph> {
        let (objective, aim) = (config.objective(), config.aim());
        let further: &[&str] = match aim {
            Aim::NextToken | Aim::Fim => &[],
            Aim::Prefix => &["prefix_mask"],
            Aim::Masked if config.objective.next_sentence && mode == Mode::Train => &SENTENCES,
            Aim::Masked if config.objective.next_sentence => &SENTENCES[..3],
            Aim::Masked | Aim::Answer | Aim::Spans => &["attention_mask"],
            // what is held out counts alike, whatever weighs more in training
            Aim::Classes if mode == Mode::Train && !config.classify.weights.is_empty() => &["label_weights"],
            Aim::Classes => &[],
            // what is held out is looked at as a text is
            Aim::Imitation if mode == Mode::Evaluate => return Objective::configured(&config.asking(Aim::NextToken), mode, batch, context),
            Aim::Preferences | Aim::Rewards | Aim::Policy | Aim::Imitation => return bind(&Objective::of_config(config)?, batch, context, context),
        };
        let columns: Vec<&str> = objective.columns().iter().chain(further).copied().collect();
        let with = match mode {
            Mode::Train => With { terms: config.objective.terms(), ..With::default() },
            Mode::Evaluate => With { exact: config.data.pairs() && aim != Aim::Classes, confusion: aim == Aim::Classes, ..With::default() },
        };
        let graph = objective.build(&config.model, mode, &columns, with)?;
        let graph = graph.keep_outputs(&[&LOSS[..], &EXACT, &SENTENCE, &[CONFUSION]].concat());
        bind(&graph, batch, context, target(&config.objective, aim, context))
    }

    /// The program of what a model says of texts, with no loss; of classes by their head alone.
    pub fn forward(self, model: &Model) -> Result<Graph> {
        let columns: Vec<&str> = self.columns().iter().filter(|c| **c != "labels").copied().collect();
        match self {
            Objective::Classes(_) => self.build(model, Mode::Evaluate, &columns, With::default()),
            Objective::NextToken
            | Objective::NextInDocument
            | Objective::Masked
            | Objective::Answer
            | Objective::Preferences
            | Objective::Rewards
            | Objective::Policy
            | Objective::Imitation => self.results(model, &columns),
        }
    }

    /// Its parameters, by name.
    pub fn parameters(self, model: &Model) -> Result<Vec<(String, Type)>> {
        Ok(self.forward(model)?.params().into_iter().map(|(name, ty)| (name.to_string(), ty)).collect())
    }

    /// The program of an objective that has a section of its own.
    fn of_config(config: &Config) -> Result<Graph> {
        match config.aim() {
            Aim::Preferences => preference::preferences(config),
            Aim::Rewards => preference::rewards(config),
            Aim::Policy => policy::policies(config),
            Aim::Imitation => distill::imitation(config),
            Aim::NextToken | Aim::Fim | Aim::Prefix | Aim::Masked | Aim::Answer | Aim::Spans | Aim::Classes => {
                config.objective().graph(&config.model, Mode::Train)
            }
        }
    }

    /// The parameters of such a program, by name.
    pub(crate) fn configured_parameters(config: &Config) -> Result<Vec<(String, Type)>> {
        Ok(Objective::of_config(config)?.params().into_iter().map(|(name, ty)| (name.to_string(), ty)).collect())
    }

    fn build(self, model: &Model, mode: Mode, asked_for: &[&str], with: With) -> Result<Graph> {
        self.check_kind(model)?;
        let b = Builder::default();
        let s = b.scope();
        let shape = |name: &str| (Dim::sym('B'), Dim::sym(if self.is_source(name) { 'S' } else { 'T' }));
        let names = || self.columns().iter().chain(self.optional()).filter(|c| asked_for.contains(c));
        let input = |name: &str| {
            let dtype = if ["next_sentence_weight", "label_weights"].contains(&name) { DType::F32 } else { DType::I32 };
            s.input(name, dtype, if self.is_of_row(name) { (Dim::sym('B'), Dim::ONE) } else { shape(name) })
        };
        let columns: Vec<(&str, Tensor)> = names().map(|name| (*name, input(name))).collect();
        let column = |name: &str| columns.iter().find(|c| c.0 == name).map(|c| c.1);
        let asked = |name: &str| column(name).expect("every objective says what it reads");
        let key = (mode == Mode::Train && model.dropout() > 0.0).then(|| s.input("key", DType::U32, [] as [Dim; 0]));
        let mask = column("attention_mask");
        let read = Reading { key, ..Reading::of(asked(self.columns()[0])) };
        let read = match self {
            Objective::Preferences | Objective::Rewards | Objective::Policy | Objective::Imitation => {
                return Err(Error(
                    "a program of preferences, rewards, a policy or a teacher follows from a configuration: see Objective::configured".into(),
                ));
            }
            Objective::NextToken => Reading { mask, prefix: column("prefix_mask"), ..read },
            Objective::NextInDocument => {
                Reading { documents: Some(Documents { ids: asked("document_ids"), positions: asked("position_ids") }), ..read }
            }
            Objective::Masked | Objective::Classes(_) => Reading { mask, types: column("token_type_ids"), ..read },
            Objective::Answer => {
                // behind all keys of the decoder's layers, so that no two drop alike
                let key = key.map(|key| key + s.uint(1 << 16));
                let of_source = Reading { key, mask, ..Reading::of(asked("input_ids")) };
                let none = || Error(format!("the model {} says it has an encoder and has none: it must implement encode", model.name()));
                let text = Encoded::Tokens(model.encode(&s, &of_source).ok_or_else(none)?);
                Reading { source: Some(Source { text, mask }), ..read }
            }
        };
        let hidden = model.hidden(&s, &read);
        if let Objective::Classes(head) = self {
            // behind all keys of the blocks
            let key = key.map(|key| key + s.uint(1 << 17));
            let logits = model.classes(&s, hidden.x, head, mask, key);
            b.output("logits", logits.reshape((Dim::sym('B'), head.classes)));
            if let Some(labels) = column("labels") {
                losses::cross_entropy_weighted(&s, logits, labels, column("label_weights"), with.terms).with(&hidden.losses).output(&b);
                if with.confusion {
                    b.output(CONFUSION, confusion(&s, logits, labels));
                }
            }
        } else if model.guesses() {
            let logits = model.head(&s, hidden.x);
            b.output("logits", logits);
            if let Some(labels) = column("labels") {
                let loss = losses::cross_entropy_with(&s, logits, labels, with.terms).with(&hidden.losses);
                let sentence = column("next_sentence_label").map(|label| sentence(&s, model, hidden.x, label)).transpose()?;
                match (sentence, column("next_sentence_weight")) {
                    (Some(sentence), Some(weight)) => loss.plus(sentence, weight).output(&b),
                    (sentence, _) => {
                        loss.output(&b);
                        sentence.into_iter().for_each(|loss| loss.output_as(&b, SENTENCE));
                    }
                }
                if with.exact {
                    losses::exact(&s, logits, labels).output_as(&b, EXACT);
                }
            }
        } else if column("labels").is_some() {
            return Err(Error(format!("the model {} has no head that guesses tokens, so there is no loss: leave labels away", model.name())));
        }
        if with.all {
            model.further(&s, hidden.x).into_iter().for_each(|(name, x)| b.output(name, x));
        }
        let graph = model.finish(b, mode == Mode::Train)?;
        // who stands where in a document follows from the documents, for a model that asks for distances alone
        match names().find(|name| !reads(&graph, name) && **name != "position_ids") {
            Some(&"document_ids") => Err(Error(format!(
                "the model {} takes no notice of documents: its attention must ask Place::visible, or try data.packing = \"windows\"",
                model.name()
            ))),
            Some(name) => Err(Error(format!("the model {} takes no notice of {name}: leave it away", model.name()))),
            None => Ok(graph),
        }
    }

    /// Whether a model of its kind can be trained so.
    fn check_kind(self, model: &Model) -> Result<()> {
        let (needs, what) = match self {
            Objective::NextToken
            | Objective::NextInDocument
            | Objective::Preferences
            | Objective::Rewards
            | Objective::Policy
            | Objective::Imitation => (Kind::Decoder, "reads texts to their end and guesses no successors"),
            Objective::Masked => (Kind::Encoder, "does not see what follows a token"),
            Objective::Answer => (Kind::EncoderDecoder, "reads one text and no second"),
            // what reads one text, whatever its tokens see of it
            Objective::Classes(_) if model.kind() != Kind::EncoderDecoder => return Ok(()),
            Objective::Classes(_) => (Kind::Encoder, "answers a text"),
        };
        if model.kind() == needs {
            return Ok(());
        }
        let what = if model.kind() == Kind::EncoderDecoder { "answers a text, and this objective has one alone" } else { what };
        Err(Error(format!("the model {} {what}", model.name())))
    }

    /// The program for `batch` windows of `context` tokens; a source has as many.
    pub fn bound(self, model: &Model, mode: Mode, batch: usize, context: usize) -> Result<Graph> {
        bind(&self.graph(model, mode)?, batch, context, context)
    }
}

/// Refuses a model that writes no answers.
fn goes_on(model: &Model) -> Result<()> {
    if model.kind() == Kind::Decoder && model.guesses() {
        return Ok(());
    }
    Err(Error(format!("the model {} goes on with no text, and answers are texts that go on; try a decoder", model.name())))
}

/// The loss of guessing whether a second segment follows the first, of what blocks made of both.
fn sentence<'g>(s: &ir::Scope<'g>, model: &Model, x: Tensor<'g>, label: Tensor<'g>) -> Result<Loss<'g>> {
    let logits = model.further(s, x).into_iter().find(|(name, _)| *name == "seq_relationship_logits");
    let (_, logits) = logits.ok_or_else(|| {
        let name = model.name();
        Error(format!("the model {name} has no head that guesses if a sentence follows; try pooler = true and sentence_head = true"))
    })?;
    Ok(losses::cross_entropy(s, logits.reshape((logits.dim(-2), 1usize, logits.dim(-1))), label))
}

/// The program for `batch` rows of `context` tokens, or of `target` tokens that answer a text of `context`.
fn bind(graph: &Graph, batch: usize, context: usize, target: usize) -> Result<Graph> {
    Ok(graph.bind(&|s| match s {
        'B' => Some(batch as u64),
        'S' => Some(context as u64),
        'T' => Some(target as u64),
        _ => None,
    })?)
}

/// A model's parameters by name, those of every head.
pub fn parameters(model: &Model) -> Result<Vec<(String, Type)>> {
    Objective::of(model).parameters(model)
}

/// The program of all that a model says of texts.
pub(crate) fn whole(model: &Model) -> Result<Graph> {
    let objective = Objective::of(model);
    let columns: Vec<&str> = objective.columns().iter().filter(|c| **c != "labels").copied().collect();
    objective.results(model, &columns)
}

/// Whether a program makes use of an input.
pub(crate) fn reads(graph: &Graph, name: &str) -> bool {
    let (index, main) = (graph.inputs.iter().position(|i| i == name), graph.main());
    let own = |id: &NodeId| matches!(main.node(*id).op, Op::Input(i, _) if Some(i as usize) == index);
    main.nodes.iter().flat_map(|n| &n.args).any(own)
}

/// The program of a step on `batch` windows of `context` tokens, before the compiler has seen it.
pub fn bound(model: &Model, batch: usize, context: usize) -> Result<Graph> {
    Objective::of(model).bound(model, Mode::Train, batch, context)
}
