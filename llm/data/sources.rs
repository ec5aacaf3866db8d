//! Sources to batches, as a function of the seed and the step: any step's batch can be made without the ones before.

use super::batch::Batch;
use super::collate::Collator;
use super::marks::Marks;
use super::mixture::{Mixture, Stage};
use super::packing::{Key, Packing, Plans, Row, Shape};
use super::permutation::{Permutation, Purpose};
use super::piece::Piece;
use super::sentences::Segments;
use super::shards::Shards;
use super::tokens::Tokens;
use super::windows::Windows;
use crate::config::DataConfig;
use crate::error::{Error, Result};
use crate::weights::checksum;

/// Tokens to learn from and tokens held out.
#[derive(Debug)]
pub struct Source {
    /// What a person calls it.
    pub name: String,
    /// For training.
    pub train: Tokens,
    /// For evaluation.
    pub held_out: Tokens,
    /// Says which tokens these are.
    pub fingerprint: String,
    /// What the vocabulary has besides words.
    pub marks: Marks,
}

impl Source {
    /// Splits the tokens of a text; the last part is held out.
    pub fn text(name: &str, mut tokens: Vec<i32>, held_out: f64) -> Source {
        let fingerprint = checksum(&tokens.iter().flat_map(|t| t.to_le_bytes()).collect::<Vec<u8>>());
        let rest = tokens.split_off((tokens.len() as f64 * (1.0 - held_out)) as usize);
        Source { name: name.into(), train: Tokens::Memory(tokens), held_out: Tokens::Memory(rest), fingerprint, marks: Marks::default() }
    }

    /// Shards, which are split already.
    pub fn shards(name: &str, shards: Shards) -> Source {
        Source { name: name.into(), train: shards.train, held_out: shards.held_out, fingerprint: shards.fingerprint, marks: Marks::default() }
    }

    /// Documents that are split already, with which of their tokens are asked.
    pub fn marked(name: &str, train: &[Piece], held_out: &[Piece]) -> Source {
        let one = |d: &Piece| {
            let tokens = d.ids.iter().enumerate().flat_map(|(i, id)| [*id, i32::from(d.asks(i))]);
            std::iter::once(-1).chain(tokens).collect::<Vec<i32>>()
        };
        let parts = [train, held_out].map(|part| part.iter().flat_map(one).chain([-2]).collect::<Vec<i32>>()).concat();
        let fingerprint = checksum(&parts.iter().flat_map(|t| t.to_le_bytes()).collect::<Vec<u8>>());
        Source { name: name.into(), train: Tokens::of(train), held_out: Tokens::of(held_out), fingerprint, marks: Marks::default() }
    }

    /// The same with what its vocabulary has besides words.
    pub fn with_marks(self, marks: Marks) -> Source {
        Source { marks, ..self }
    }

    /// The token that every document of answers ends with, where there is one.
    pub(crate) fn last(&self) -> Option<i32> {
        let Tokens::Documents { ids, starts, .. } = &self.train else { return None };
        let ends: Vec<i32> = starts.windows(2).skip(1).step_by(2).filter_map(|w| ids[w[0] as usize..w[1] as usize].last().copied()).collect();
        ends.first().copied().filter(|end| ends.iter().all(|e| e == end))
    }

    /// Fails where either part is shorter than one window of so many tokens; documents may be.
    fn check(&self, context: usize, need: usize) -> Result<()> {
        for (part, tokens) in [("training part", &self.train), ("held-out part", &self.held_out)] {
            let n = tokens.count();
            if n < need as u64 {
                return Err(Error(format!(
                    "the {part} of {} has {n} tokens, and a window of context {context} needs {need}: use more text or a smaller train.context",
                    self.name,
                )));
            }
        }
        Ok(())
    }
}

/// Two numbers of every pair of each source, of those that are learned from and of those that are held out.
pub(crate) type Known = Vec<[Vec<[f32; 2]>; 2]>;

/// Sources, and how rows are made of them.
#[derive(Debug)]
pub struct Data {
    sources: Vec<Source>,
    mixture: Mixture,
    packing: Packing,
    /// Whether windows begin elsewhere in each epoch.
    stagger: bool,
    /// Documents a row, where some belong together; 1 where none do.
    together: u64,
    collator: Collator,
    /// What is known of a row beside its documents.
    known: Known,
    /// Of training and held-out documents, a pair a source.
    plans: Vec<[Plans; 2]>,
    /// The same of sentences.
    segments: Vec<[Segments; 2]>,
}

impl Data {
    /// Splits the tokens of one text; the last part is held out. Fails where either part is shorter than one window.
    pub fn split(tokens: Vec<i32>, held_out: f64, context: usize) -> Result<Data> {
        Data::new(vec![Source::text("the text", tokens, held_out)], &DataConfig::default(), context, 0)
    }

    /// Several sources mixed and packed as the configuration says, in a run of `rows` rows, each token's successor asked. Fails where a part
    /// is shorter than one window.
    pub fn new(sources: Vec<Source>, config: &DataConfig, context: usize, rows: u64) -> Result<Data> {
        Data::asking(sources, config, Collator::next_token(config.packing), context, rows)
    }

    /// The same, of which a collator makes what is asked.
    pub fn asking(sources: Vec<Source>, config: &DataConfig, collator: Collator, context: usize, rows: u64) -> Result<Data> {
        let together = config.together();
        if config.packing == Packing::Windows && together == 1 {
            let need = collator.places(context) + usize::from(collator.shifts());
            sources.iter().try_for_each(|s| s.check(context, need))?;
        }
        let (weights, curriculum): (&[f64], &[Stage]) = (&config.weights, &config.curriculum);
        let mixture = Mixture::new(sources.len(), weights, curriculum, rows)?;
        let plans = sources.iter().map(|_| Default::default()).collect();
        let segments = sources.iter().map(|_| Default::default()).collect();
        Ok(Data { sources, mixture, packing: config.packing, stagger: config.stagger, together, collator, known: vec![], plans, segments })
    }

    /// The sources.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Says which tokens these are: the source's fingerprint, or one of all of theirs in order.
    pub fn fingerprint(&self) -> String {
        match &self.sources[..] {
            [one] => one.fingerprint.clone(),
            all => checksum(all.iter().flat_map(|s| [&s.fingerprint, "\n"]).collect::<String>().as_bytes()),
        }
    }

    /// The batch of a step: `rows` rows that depend on the seed and their number alone.
    pub fn batch(&self, seed: u64, step: u64, rows: usize, context: usize) -> Result<Batch> {
        self.rows(seed, step * rows as u64, rows, context)
    }

    /// A batch of rows from a number on.
    pub fn rows(&self, seed: u64, first: u64, rows: usize, context: usize) -> Result<Batch> {
        let row = |(source, number): (usize, u64)| {
            let ranges = self.row(seed, source, number, context, rows)?;
            Ok((self.pieces(source, 0, ranges)?, Purpose::Row.key(seed, [source as u64, number, 0])))
        };
        let rows: Vec<_> = self.mixture.deal(seed, first, rows as u64).into_iter().map(row).collect::<Result<_>>()?;
        Ok(self.collator.batch(rows, context))
    }

    /// Windows of so many tokens, in rows of `context`.
    fn windows(&self, tokens: u64, context: usize) -> Windows {
        Windows::new(tokens, self.collator.places(context) as u64, self.collator.shifts(), self.stagger)
    }

    /// Which rows a source's documents are packed into, of which `group` are read together.
    fn key(&self, seed: Option<u64>, source: usize, context: usize, group: usize) -> Key {
        let shape = Shape { alone: self.packing.is_alone(), shifts: self.collator.shifts() };
        let group = if self.packing == Packing::Bucketed && seed.is_some() { group as u64 } else { 0 };
        Key { seed, source: source as u64, context: self.collator.places(context) as u64, shape, group }
    }

    /// Whether the rows of a step are as long as the longest of them needs.
    pub fn is_bucketed(&self) -> bool {
        self.packing == Packing::Bucketed
    }

    /// The tokens of a source's row, one of `group` that are read together.
    fn row(&self, seed: u64, source: usize, number: u64, context: usize, group: usize) -> Result<Row> {
        let tokens = &self.sources[source].train;
        match self.packing {
            _ if self.collator.sentences() => {
                let (segments, places) = (&self.segments[source][0], self.collator.places(context) as u64);
                let rows = segments.rows(tokens, places)?;
                let order = Permutation::new(rows, Purpose::Documents.key(seed, [source as u64, number / rows, 0]));
                segments.row(tokens, places, order.at(number % rows), Purpose::Rows.key(seed, [source as u64, number, 0]))
            }
            _ if self.together > 1 => {
                let pairs = self.records(tokens)?;
                let order = Permutation::new(pairs, Purpose::Documents.key(seed, [source as u64, number / pairs, 0]));
                self.record(tokens, order.at(number % pairs))
            }
            Packing::Windows => Ok(vec![self.windows(tokens.count(), context).shuffled(seed, source as u64, number)]),
            Packing::BestFit | Packing::Padded | Packing::Bucketed => {
                self.plans[source][0].row(tokens, self.key(Some(seed), source, context, group), number)
            }
        }
    }

    /// How often each source is read over in so many rows.
    pub fn epochs(&self, seed: u64, rows: u64, context: usize) -> Result<Vec<f64>> {
        let one = |(source, rows): (usize, u64)| {
            let tokens = &self.sources[source].train;
            let epoch = match self.packing {
                _ if self.collator.sentences() => self.segments[source][0].rows(tokens, self.collator.places(context) as u64)?,
                _ if self.together > 1 => self.records(tokens)?,
                Packing::Windows => self.windows(tokens.count(), context).an_epoch(),
                Packing::BestFit | Packing::Padded | Packing::Bucketed => {
                    self.plans[source][0].rows(tokens, self.key(Some(seed), source, context, 1), 0)?
                }
            };
            Ok(rows as f64 / epoch as f64)
        };
        self.mixture.counts(seed, rows).into_iter().enumerate().map(one).collect()
    }

    /// The held-out tokens as batches, source after source, each made when it is asked for. `rows` and `context` are at least 1.
    pub fn held_out(&self, rows: usize, context: usize) -> Result<HeldOut<'_>> {
        let mut before = vec![0];
        for source in 0..self.sources.len() {
            let batches = self.held_out_rows(source, context)?.div_ceil(rows as u64);
            before.push(before[source] + batches as usize);
        }
        Ok(HeldOut { data: self, rows, context, before })
    }

    /// Rows of documents that belong together, at least one.
    fn records(&self, tokens: &Tokens) -> Result<u64> {
        match tokens.documents() / self.together {
            0 => Err(Error("a part has no pair of a text and its answer: use more text, or another data.held_out".into())),
            records => Ok(records),
        }
    }

    /// The documents of such a row.
    fn record(&self, tokens: &Tokens, number: u64) -> Result<Row> {
        tokens.ranges(self.together * number..self.together * (number + 1))
    }

    /// Texts with their answers, of the rows of training from a number on.
    pub(crate) fn documents_of(&self, seed: u64, first: u64, rows: usize) -> Result<Vec<[Vec<i32>; 2]>> {
        let row = |(source, number): (usize, u64)| {
            let ranges = self.row(seed, source, number, 0, 1)?;
            let tokens = &self.sources[source].train;
            Ok([tokens.read(ranges[0].clone())?, tokens.read(ranges[1].clone())?])
        };
        self.mixture.deal(seed, first, rows as u64).into_iter().map(row).collect()
    }

    /// Pairs of all parts.
    pub(crate) fn count_pairs(&self) -> u64 {
        self.sources.iter().flat_map(|s| [&s.train, &s.held_out]).map(|tokens| tokens.documents() / self.together).sum()
    }

    /// Asks of every pair, in batches of so many rows, what `say` says of each row; of those that fill a batch up nothing is kept.
    pub(crate) fn each_pair(&self, rows: usize, context: usize, say: &mut dyn FnMut(&Batch) -> Result<Vec<[f32; 2]>>) -> Result<Known> {
        let mut part = |tokens: &Tokens| -> Result<Vec<[f32; 2]>> {
            let (count, mut all) = (tokens.documents() / self.together, vec![]);
            for first in (0..count).step_by(rows) {
                let pieces = |number: u64| -> Result<Vec<Piece>> {
                    let ranges = if number < count { self.record(tokens, number)? } else { vec![] };
                    ranges.into_iter().map(|range| tokens.piece(range)).collect()
                };
                let batch: Vec<_> = (first..first + rows as u64).map(|number| Ok((pieces(number)?, 0))).collect::<Result<_>>()?;
                all.extend(say(&self.collator.batch(batch, context))?);
            }
            all.truncate(count as usize);
            Ok(all)
        };
        self.sources.iter().map(|s| Ok([part(&s.train)?, part(&s.held_out)?])).collect()
    }

    /// The same with what is known of every pair.
    pub(crate) fn knowing(&mut self, known: Known) {
        self.known = known;
    }

    /// What is known of a row of documents, as the bits of its numbers.
    fn known(&self, source: usize, part: usize, tokens: &Tokens, ranges: &Row) -> Result<Option<Piece>> {
        let Some(known) = self.known.get(source) else { return Ok(None) };
        let Some(first) = ranges.first() else { return Ok(None) };
        let record = tokens.document_at(first.start) / self.together;
        Ok(known[part].get(record as usize).map(|pair| Piece::all(pair.iter().map(|x| x.to_bits() as i32).collect())))
    }

    /// The tokens of a row's ranges; of two segments a third says whether the second follows the first (0), or is another text's (1).
    fn pieces(&self, source: usize, part: usize, ranges: Row) -> Result<Vec<Piece>> {
        let tokens = if part == 0 { &self.sources[source].train } else { &self.sources[source].held_out };
        let known = self.known(source, part, tokens, &ranges)?;
        let label = match &ranges[..] {
            [first, second] if self.collator.sentences() => Some(Piece::all(vec![i32::from(first.end != second.start)])),
            _ => None,
        };
        ranges.into_iter().map(|range| tokens.piece(range)).chain(label.map(Ok)).chain(known.map(Ok)).collect()
    }

    fn held_out_rows(&self, source: usize, context: usize) -> Result<u64> {
        let tokens = &self.sources[source].held_out;
        match self.packing {
            _ if self.collator.sentences() => self.segments[source][1].rows(tokens, self.collator.places(context) as u64),
            _ if self.together > 1 => self.records(tokens),
            Packing::Windows => Ok(self.windows(tokens.count(), context).count()),
            Packing::BestFit | Packing::Padded | Packing::Bucketed => self.plans[source][1].rows(tokens, self.key(None, source, context, 0), 0),
        }
    }

    fn held_out_row(&self, source: usize, number: u64, context: usize) -> Result<Row> {
        let tokens = &self.sources[source].held_out;
        match self.packing {
            _ if self.collator.sentences() => {
                let key = Purpose::Rows.key(HELD_OUT, [source as u64, number, 0]);
                self.segments[source][1].row(tokens, self.collator.places(context) as u64, number, key)
            }
            _ if self.together > 1 => self.record(tokens, number),
            Packing::Windows => Ok(vec![self.windows(tokens.count(), context).nth(number)]),
            Packing::BestFit | Packing::Padded | Packing::Bucketed => self.plans[source][1].row(tokens, self.key(None, source, context, 0), number),
        }
    }
}

/// What is drawn for held-out rows is drawn alike in every run.
const HELD_OUT: u64 = 0x6865_6C64;

/// Held-out tokens as batches: consecutive windows, or documents in their order, packed. A source's last batch is filled up with unasked
/// rows. Each token is asked once, but for the first, which has nothing before it; of documents, each document's first.
pub struct HeldOut<'d> {
    data: &'d Data,
    rows: usize,
    context: usize,
    /// Batches before each source, and in all.
    before: Vec<usize>,
}

impl HeldOut<'_> {
    /// Number of batches.
    pub fn count(&self) -> usize {
        self.before[self.data.sources.len()]
    }

    /// The batch of a number below that.
    pub fn batch(&self, number: usize) -> Result<Batch> {
        let source = self.before.partition_point(|b| *b <= number) - 1;
        let all = self.data.held_out_rows(source, self.context)?;
        let first = ((number - self.before[source]) * self.rows) as u64;
        let row = |row: u64| {
            let ranges = if row < all { self.data.held_out_row(source, row, self.context)? } else { vec![] };
            Ok((self.data.pieces(source, 1, ranges)?, Purpose::Row.key(HELD_OUT, [source as u64, row, 0])))
        };
        let rows: Vec<_> = (first..first + self.rows as u64).map(row).collect::<Result<_>>()?;
        Ok(self.data.collator.batch(rows, self.context))
    }
}
