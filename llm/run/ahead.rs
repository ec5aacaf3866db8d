//! Batches made ahead of the steps that take them.

use crate::config::{Size, TrainConfig};
use crate::data::{Batch, Data};
use crate::error::{Error, Result};
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

/// The batches of consecutive steps. A thread makes each while the steps before it are taken, so that waiting for a disk takes no time of
/// theirs. It ends when nobody waits any more.
pub struct Ahead(Receiver<Result<Batch>>);

impl Ahead {
    /// Begins with the first of some steps, counted from 0.
    pub fn new(data: Arc<Data>, train: &TrainConfig, mut steps: Range<u64>) -> Result<Ahead> {
        let (to, from) = sync_channel(1);
        let train = train.clone();
        let make = move || steps.try_for_each(|step| to.send(batch(&data, &train, step)).ok());
        let thread = std::thread::Builder::new().name("batches".into()).spawn(make);
        thread.map_err(|e| Error(format!("no thread can be started that makes batches: {e}")))?;
        Ok(Ahead(from))
    }

    /// The batch of the next step.
    pub fn next(&self) -> Result<Batch> {
        self.0.recv().map_err(|_| Error("the thread that makes batches has ended".into()))?
    }
}

/// The batch of a step, counted from 0: as many rows as it is large, after those of the steps before, each as long as it is.
pub(super) fn batch(data: &Data, train: &TrainConfig, step: u64) -> Result<Batch> {
    let step = train.batch_of(step);
    let Size { accumulate, context } = train.size(step);
    let rows = train.batch * accumulate as usize;
    let whole = data.rows(train.seed, train.micro_batches(step) * train.batch as u64, rows, train.context)?;
    if data.is_bucketed() {
        return Ok(bucketed(whole, train));
    }
    Ok(if context < train.context { whole.cut(train.context, context) } else { whole })
}

/// A batch whose rows are as short as there is a length for: nothing is asked or read of what is left away.
fn bucketed(batch: Batch, train: &TrainConfig) -> Batch {
    // a text that has one class is read as a whole
    let (column, least) = if batch.column("attention_mask").is_some() { ("attention_mask", 1) } else { ("labels", 0) };
    let last = |row: &[i32]| row.iter().rposition(|x| *x >= least).map_or(0, |last| last + 1);
    let need = batch.i32s(column).chunks(train.context).map(last).max().unwrap_or(0);
    let length = train.lengths().into_iter().find(|n| *n >= need).unwrap_or(train.context);
    if length < train.context { batch.cut(train.context, length) } else { batch }
}
