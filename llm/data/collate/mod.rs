//! Rows of tokens to the columns that an objective reads: a function of the tokens and a key, one file an objective.

mod answer;
mod classes;
mod masked;
mod middle;
mod next;
mod preference;
mod spans;

use super::batch::{Batch, Values};
use super::marks::Marks;
use super::packing::Packing;
use super::permutation::random;
use super::piece::Piece;
use crate::config::{Aim, DataConfig, ObjectiveConfig, Preference};
use crate::error::{Error, Result};
use crate::objective::{GOOD, REFERENCE};

/// Labels of what is not asked.
const IGNORED: i32 = -100;

/// What is asked of rows.
#[derive(Debug)]
pub struct Collator {
    aim: Aim,
    config: ObjectiveConfig,
    marks: Marks,
    packing: Packing,
    /// Whether pieces are a text and its answer.
    pairs: bool,
    /// How much a text of each class counts; none where all count alike.
    weights: Vec<f64>,
    /// How preferences are learned.
    preference: Preference,
}

/// A column: its name, how many elements a row has, and what fills them up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Form {
    name: &'static str,
    width: usize,
    fill: i32,
    /// Parts of a row that stand beside each other in an axis of their own; 1 where there is none.
    parts: usize,
    /// Whether elements are the bits of floats.
    floats: bool,
}

/// A row's part of each column, in the order of the forms; not filled up yet.
type Filled = Vec<Vec<i32>>;

impl Collator {
    /// Each token's successor.
    pub fn next_token(packing: Packing) -> Collator {
        Collator {
            aim: Aim::NextToken,
            config: ObjectiveConfig::default(),
            marks: Marks::default(),
            packing,
            pairs: false,
            weights: vec![],
            preference: Preference::Dpo,
        }
    }

    /// What a configuration asks of tokens with such marks. Fails where the objective needs a mark that there is not.
    pub fn new(aim: Aim, config: &ObjectiveConfig, data: &DataConfig, marks: &Marks) -> Result<Collator> {
        let collator = Collator {
            aim,
            config: config.clone(),
            marks: marks.clone(),
            packing: data.packing,
            pairs: data.pairs(),
            weights: vec![],
            preference: Preference::Dpo,
        };
        match aim {
            Aim::NextToken => Ok(collator),
            Aim::Masked => collator.has("a mask", "[MASK]", marks.mask.is_some()).map(|()| collator),
            Aim::Fim => collator.has("marks of beginning, end and middle", "<|fim_prefix|>", marks.fim.is_some()).map(|()| collator),
            Aim::Spans => collator.has("sentinels", "<extra_id_0>", !marks.sentinels.is_empty()).map(|()| collator),
            Aim::Answer | Aim::Prefix | Aim::Classes | Aim::Preferences | Aim::Rewards | Aim::Policy | Aim::Imitation => Ok(collator),
        }
    }

    /// The same, where a text of each class counts so much.
    pub fn weighing(self, classes: &[f64]) -> Collator {
        Collator { weights: classes.to_vec(), ..self }
    }

    /// The same, where preferences are learned so.
    pub fn preferring(self, preference: Preference) -> Collator {
        Collator { preference, ..self }
    }

    fn has(&self, what: &str, name: &str, there: bool) -> Result<()> {
        if there {
            return Ok(());
        }
        let aim = self.aim;
        Err(Error(format!(
            "the objective {aim} needs {what}, and the tokenizer has none such as {name}; learn one from the text, as with data.tokenizer = \"bpe\", \
             or add them with eggcorn tokenizer extend --special '{name}'"
        )))
    }

    /// Whether the last token of a range is only asked, so that a row of so many places takes one token more.
    pub(super) fn shifts(&self) -> bool {
        matches!(self.aim, Aim::NextToken | Aim::Fim | Aim::Prefix)
    }

    /// Whether rows are two segments, of which the second may follow the first.
    pub(super) fn sentences(&self) -> bool {
        self.aim == Aim::Masked && self.config.next_sentence
    }

    /// Places for tokens of the text in rows of `context`.
    pub(super) fn places(&self, context: usize) -> usize {
        match self.aim {
            Aim::NextToken | Aim::Fim | Aim::Prefix | Aim::Answer | Aim::Classes | Aim::Preferences | Aim::Rewards | Aim::Policy | Aim::Imitation => {
                context
            }
            Aim::Masked => masked::places(self, context),
            Aim::Spans => spans::places(self, context),
        }
    }

    fn forms(&self, context: usize) -> Vec<Form> {
        let form = |name, width, fill| Form { name, width, fill, parts: 1, floats: false };
        let (pad, target) = (self.marks.pad, target(&self.config, self.aim, context));
        let next = [form("input_ids", context, 0), form("labels", context, IGNORED)];
        match self.aim {
            Aim::NextToken | Aim::Fim if self.packing == Packing::BestFit => {
                [next, [form("document_ids", context, 0), form("position_ids", context, 0)]].concat()
            }
            Aim::NextToken | Aim::Fim | Aim::Policy | Aim::Imitation => next.to_vec(),
            Aim::Preferences | Aim::Rewards => {
                let both = next.map(|f| Form { width: 2 * context, parts: 2, ..f });
                let good = (self.preference == Preference::Kto).then_some(form(GOOD, 1, 0));
                let before = self.preference.refers().then_some(Form { floats: true, ..form(REFERENCE, 2, 0) });
                both.into_iter().chain(good.into_iter().chain(before).filter(|_| self.aim == Aim::Preferences)).collect()
            }
            Aim::Prefix => [&next[..], &[form("prefix_mask", context, 0)]].concat(),
            Aim::Masked => {
                let hidden = [form("input_ids", context, pad), next[1], form("attention_mask", context, 0)];
                let sentences = [form("token_type_ids", context, 0), form("next_sentence_label", 1, IGNORED)];
                [&hidden[..], if self.sentences() { &sentences } else { &[] }].concat()
            }
            Aim::Classes => vec![form("input_ids", context, pad), form("labels", 1, IGNORED), form("attention_mask", context, 0)],
            Aim::Spans | Aim::Answer => vec![
                form("decoder_input_ids", target, pad),
                form("labels", target, IGNORED),
                form("input_ids", context, pad),
                form("attention_mask", context, 0),
            ],
        }
    }

    /// A row of some pieces of text, drawn by a key.
    fn row(&self, pieces: Vec<Piece>, key: u64, context: usize) -> Filled {
        if self.aim == Aim::NextToken && !self.pairs {
            return next::row(self.packing, &pieces);
        }
        if matches!(self.aim, Aim::Preferences | Aim::Rewards) {
            return preference::row(self, pieces, context);
        }
        let pieces: Vec<Vec<i32>> = pieces.into_iter().map(|p| p.ids).collect();
        let pieces = pieces.as_slice();
        match self.aim {
            Aim::NextToken | Aim::Prefix if self.pairs => next::pair(self.aim, pieces, self.marks.end, context),
            Aim::NextToken | Aim::Fim => {
                let pieces: Vec<Piece> = middle::rows(self, pieces, key).into_iter().map(Piece::all).collect();
                next::row(self.packing, &pieces)
            }
            Aim::Prefix => next::prefix_row(pieces, key),
            Aim::Masked if self.sentences() => masked::sentences(self, pieces, key, context),
            Aim::Masked => masked::row(self, pieces, key),
            Aim::Spans => spans::row(self, pieces, key),
            Aim::Answer => answer::row(self, pieces, context),
            Aim::Classes => classes::row(pieces, context),
            Aim::Policy | Aim::Imitation => next::pair(self.aim, pieces, self.marks.end, context),
            Aim::Preferences | Aim::Rewards => unreachable!("they are rows of pieces"),
        }
    }

    /// Rows of one length, of pieces and a key each.
    pub(super) fn batch(&self, rows: Vec<(Vec<Piece>, u64)>, context: usize) -> Batch {
        let forms = self.forms(context);
        let mut columns: Vec<Vec<i32>> = forms.iter().map(|f| Vec::with_capacity(rows.len() * f.width)).collect();
        let count = rows.len();
        for (i, (pieces, key)) in rows.into_iter().enumerate() {
            let row = if pieces.is_empty() { vec![vec![]; forms.len()] } else { self.row(pieces, key, context) };
            for ((column, form), part) in columns.iter_mut().zip(&forms).zip(row) {
                assert!(part.len() <= form.width, "{} elements of column {} in a row of {}", part.len(), form.name, form.width);
                column.extend(part);
                column.resize((i + 1) * form.width, form.fill);
            }
        }
        let shape = |form: &Form| {
            if form.parts == 1 { vec![count, form.width] } else { vec![count, form.parts, form.width / form.parts] }
        };
        let values = |form: &Form, column: Vec<i32>| {
            if form.floats { Values::F32(column.into_iter().map(|x| f32::from_bits(x as u32)).collect()) } else { Values::I32(column) }
        };
        let asked = |name: &str| {
            let column = forms.iter().position(|f| f.name == name).map(|i| &columns[i]);
            column.map_or(0, |c| c.iter().filter(|label| **label >= 0).count())
        };
        // so many tokens are asked for each sentence: with this weight, the sum of both losses by the tokens is the sum of their means
        let weight = asked("labels") as f32 / asked("next_sentence_label").max(1) as f32;
        let batch =
            forms.iter().zip(columns).fold(Batch::default(), |batch, (form, column)| batch.with(form.name, &shape(form), values(form, column)));
        if !self.weights.is_empty() {
            let weights = classes::weights(batch.i32s("labels"), &self.weights);
            return batch.with("label_weights", &[count, 1], Values::F32(weights));
        }
        if self.sentences() { batch.with("next_sentence_weight", &[count, 1], Values::F32(vec![weight; count])) } else { batch }
    }
}

/// Tokens that an answer has at most, in rows of `context`.
pub fn target(config: &ObjectiveConfig, aim: Aim, context: usize) -> usize {
    match (config.target, aim) {
        (0, Aim::Spans) => spans::target(config, context),
        (
            0,
            Aim::NextToken
            | Aim::Fim
            | Aim::Prefix
            | Aim::Masked
            | Aim::Answer
            | Aim::Classes
            | Aim::Preferences
            | Aim::Rewards
            | Aim::Policy
            | Aim::Imitation,
        ) => context,
        (n, _) => n,
    }
}

/// Sentinels that texts in rows of `context` need.
pub(super) fn sentinels(config: &ObjectiveConfig, context: usize) -> usize {
    spans::sentinels(config, context)
}

/// Random numbers, one after the other, of a key.
pub(super) struct Draws {
    key: u64,
    next: u64,
}

impl Draws {
    pub(super) fn new(key: u64) -> Draws {
        Draws { key, next: 0 }
    }

    fn bits(&mut self) -> u64 {
        self.next += 1;
        random(self.key, self.next - 1)
    }

    /// At least 0 and below 1.
    pub(super) fn share(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Below a bound, which is at least 1.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// So many of the numbers below a bound, in their order.
    fn some_of(&mut self, count: usize, bound: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..bound).collect();
        for i in 0..count {
            let other = i + self.below(bound - i);
            all.swap(i, other);
        }
        all.truncate(count);
        all.sort_unstable();
        all
    }
}
