//! Sources to batches, as a function of the seed and the step: any step's batch can be made without the ones before.

use super::batch::{Batch, Values};
use super::mixture::{Mixture, Stage};
use super::packing::{Key, Packing, Plans, Row};
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
}

impl Source {
    /// Splits the tokens of a text; the last part is held out.
    pub fn text(name: &str, mut tokens: Vec<i32>, held_out: f64) -> Source {
        let fingerprint = checksum(&tokens.iter().flat_map(|t| t.to_le_bytes()).collect::<Vec<u8>>());
        let rest = tokens.split_off((tokens.len() as f64 * (1.0 - held_out)) as usize);
        Source { name: name.into(), train: Tokens::Memory(tokens), held_out: Tokens::Memory(rest), fingerprint }
    }

    /// Shards, which are split already.
    pub fn shards(name: &str, shards: Shards) -> Source {
        Source { name: name.into(), train: shards.train, held_out: shards.held_out, fingerprint: shards.fingerprint }
    }

    /// Fails where either part is shorter than one window; documents may be.
    fn check(&self, context: usize) -> Result<()> {
        for (part, tokens) in [("training part", &self.train), ("held-out part", &self.held_out)] {
            let n = tokens.count();
            if n < context as u64 + 1 {
                return Err(Error(format!(
                    "the {part} of {} has {n} tokens, and a window of context {context} needs {}: use more text or a smaller train.context",
                    self.name,
                    context + 1
                )));
            }
        }
        Ok(())
    }
}

/// Sources, and how rows are made of them.
#[derive(Debug)]
pub struct Data {
    sources: Vec<Source>,
    mixture: Mixture,
    packing: Packing,
    /// Of training and held-out documents, a pair a source.
    plans: Vec<[Plans; 2]>,
}

impl Data {
    /// Splits the tokens of one text; the last part is held out. Fails where either part is shorter than one window.
    pub fn split(tokens: Vec<i32>, held_out: f64, context: usize) -> Result<Data> {
        Data::new(vec![Source::text("the text", tokens, held_out)], &DataConfig::default(), context, 0)
    }

    /// Several sources mixed and packed as the configuration says, in a run of `rows` rows. Fails where a part is shorter than one window.
    pub fn new(sources: Vec<Source>, config: &DataConfig, context: usize, rows: u64) -> Result<Data> {
        if config.packing == Packing::Windows {
            sources.iter().try_for_each(|s| s.check(context))?;
        }
        let (weights, curriculum): (&[f64], &[Stage]) = (&config.weights, &config.curriculum);
        let mixture = Mixture::new(sources.len(), weights, curriculum, rows)?;
        let plans = sources.iter().map(|_| Default::default()).collect();
        Ok(Data { sources, mixture, packing: config.packing, plans })
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
        let mut filled = Filled::default();
        for (source, number) in self.mixture.deal(seed, step * rows as u64, rows as u64) {
            filled.row(&self.sources[source].train, self.row(seed, source, number, context)?, context)?;
        }
        Ok(filled.batch(self.packing, rows, context))
    }

    /// The tokens of a source's row.
    fn row(&self, seed: u64, source: usize, number: u64, context: usize) -> Result<Row> {
        let (tokens, context) = (&self.sources[source].train, context as u64);
        match self.packing {
            Packing::Windows => Ok(vec![Windows::new(tokens.count(), context).shuffled(seed, source as u64, number)]),
            Packing::BestFit => self.plans[source][0].row(tokens, Key { seed: Some(seed), source: source as u64, context }, number),
        }
    }

    /// How often each source is read over in so many rows.
    pub fn epochs(&self, seed: u64, rows: u64, context: usize) -> Result<Vec<f64>> {
        let one = |(source, rows): (usize, u64)| {
            let (tokens, context) = (&self.sources[source].train, context as u64);
            let epoch = match self.packing {
                Packing::Windows => Windows::new(tokens.count(), context).an_epoch(),
                Packing::BestFit => self.plans[source][0].rows(tokens, Key { seed: Some(seed), source: source as u64, context }, 0)?,
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

    fn held_out_rows(&self, source: usize, context: usize) -> Result<u64> {
        let (tokens, context) = (&self.sources[source].held_out, context as u64);
        match self.packing {
            Packing::Windows => Ok(Windows::new(tokens.count(), context).count()),
            Packing::BestFit => self.plans[source][1].rows(tokens, Key { seed: None, source: source as u64, context }, 0),
        }
    }

    fn held_out_row(&self, source: usize, number: u64, context: usize) -> Result<Row> {
        let (tokens, context) = (&self.sources[source].held_out, context as u64);
        match self.packing {
            Packing::Windows => Ok(vec![Windows::new(tokens.count(), context).nth(number)]),
            Packing::BestFit => self.plans[source][1].row(tokens, Key { seed: None, source: source as u64, context }, number),
        }
    }
}

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
        let mut filled = Filled::default();
        for row in first..first + self.rows as u64 {
            let ranges = if row < all { self.data.held_out_row(source, row, self.context)? } else { vec![] };
            filled.row(&self.data.sources[source].held_out, ranges, self.context)?;
        }
        Ok(filled.batch(self.data.packing, self.rows, self.context))
    }
}

/// Columns as rows are added to them.
#[derive(Default)]
struct Filled {
    ids: Vec<i32>,
    /// The tokens that follow; −100 where nothing is asked.
    labels: Vec<i32>,
    /// Which document of its row a token is of, from 1; 0 where there is none.
    documents: Vec<i32>,
    /// Where in it the token stands.
    positions: Vec<i32>,
}

impl Filled {
    /// Adds a row of ranges of tokens, filled up to the context.
    fn row(&mut self, tokens: &Tokens, ranges: Row, context: usize) -> Result<()> {
        let end = self.ids.len() + context;
        for (document, range) in (1..).zip(ranges) {
            let read = tokens.read(range)?;
            let places = read.len() - 1;
            self.ids.extend(&read[..places]);
            self.labels.extend(&read[1..]);
            self.documents.extend(std::iter::repeat_n(document, places));
            self.positions.extend(0..places as i32);
        }
        self.ids.resize(end, 0);
        self.labels.resize(end, -100);
        self.documents.resize(end, 0);
        self.positions.resize(end, 0);
        Ok(())
    }

    fn batch(self, packing: Packing, rows: usize, context: usize) -> Batch {
        let shape = [rows, context];
        let batch = Batch::default().with("input_ids", &shape, Values::I32(self.ids)).with("labels", &shape, Values::I32(self.labels));
        match packing {
            Packing::Windows => batch,
            Packing::BestFit => {
                batch.with("document_ids", &shape, Values::I32(self.documents)).with("position_ids", &shape, Values::I32(self.positions))
            }
        }
    }
}
