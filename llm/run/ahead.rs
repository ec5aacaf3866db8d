//! Batches made ahead of the steps that take them.

use crate::config::TrainConfig;
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
        let (seed, rows, context) = (train.seed, train.step_rows(), train.context);
        let train = train.clone();
        let make = move || steps.try_for_each(|step| to.send(data.batch(seed, train.batch_of(step), rows, context)).ok());
        let thread = std::thread::Builder::new().name("batches".into()).spawn(make);
        thread.map_err(|e| Error(format!("no thread can be started that makes batches: {e}")))?;
        Ok(Ahead(from))
    }

    /// The batch of the next step.
    pub fn next(&self) -> Result<Batch> {
        self.0.recv().map_err(|_| Error("the thread that makes batches has ended".into()))?
    }
}
