//! A model that another imitates: what it says of each batch.

use crate::config::{Config, Models};
use crate::data::{Batch, Values};
use crate::error::{Error, Result};
use crate::hub::Directory;
use crate::objective::{Mode, Objective, TEACHER};
use crate::text::Tokenizer;
use crate::weights::load_weights;
use passes::{Goal, Options, compile};
use runtime::{Device, Session};
use std::path::Path;

/// The teacher's program, for so many rows at once.
pub struct Teacher {
    session: Session,
    rows: usize,
    context: usize,
}

impl Teacher {
    /// Opens the directory that a configuration names. Its tokens must be those of the model that learns.
    pub fn open(config: &Config, models: &Models, tokenizer: &Tokenizer, device: &Device, options: &Options) -> Result<Teacher> {
        let path = Path::new(&config.distill.teacher);
        let directory = Directory::open(path, models)?;
        let fail = |why: String| Error(format!("distill.teacher: {}: {why}", path.display()));
        if directory.tokenizer()?.is_some_and(|t| t.fingerprint() != tokenizer.fingerprint()) {
            return Err(fail("its tokens are others than the model's; train the model with --tokenizer and the teacher's".into()));
        }
        let (t, model) = (&config.train, directory.model());
        if model.vocab_size() != config.model.vocab_size() {
            return Err(fail(format!("it has {} tokens, and the model {}", model.vocab_size(), config.model.vocab_size())));
        }
        if model.context() < t.context {
            return Err(fail(format!("it reads {} tokens at most; try train.context = {0}", model.context())));
        }
        let graph = Objective::NextToken.bound(model, Mode::Evaluate, t.batch, t.context)?.keep_outputs(&["logits"]);
        let mut session = Session::within(compile(&graph, Goal::Results, options)?.last(), device.clone(), options.budget)?;
        load_weights(&mut [&mut session], &directory.tensors()?, &|_| true)?;
        Ok(Teacher { session, rows: t.batch, context: t.context })
    }

    /// The batch with what it says of every token.
    pub(super) fn told(&mut self, batch: Batch) -> Result<Batch> {
        let ids = batch.i32s("input_ids");
        let rows = ids.len() / self.context;
        let mut logits = vec![];
        for some in ids.chunks(self.rows * self.context) {
            self.session.set_i32("input_ids", some)?;
            self.session.run().map_err(|e| Error(e.to_string()))?;
            logits.extend(self.session.output("logits").expect("the program has it").f32s());
        }
        let vocabulary = logits.len() / (rows * self.context);
        Ok(batch.with(TEACHER, &[rows, self.context, vocabulary], Values::F32(logits)))
    }
}
