//! The loss on text that is held out, with the weights as they are now and nothing dropped.

use crate::config::Config;
use crate::data::Batch;
use crate::error::{Error, Result};
use crate::objective::{Mode, Objective};
use ir::names::{LOSS, LOSS_COUNT, LOSS_SUM};
use passes::{Goal, Options, State, compile};
use runtime::{Device, Session};

/// The program of the loss without a gradient.
pub struct Evaluation {
    session: Session,
}

impl Evaluation {
    /// Compiles the program for batches of the size training has. The parameters are those of a session in training, which holds the
    /// only copy of them; where it keeps averages of them, it is those that are evaluated.
    pub fn new(config: &Config, device: Device, options: &Options, of: &Session) -> Result<Evaluation> {
        let t = &config.train;
        let forward = Objective::configured(config, Mode::Evaluate, t.batch, t.context)?.keep_outputs(&LOSS);
        let stages = compile(&forward, Goal::Results, options)?;
        let kept = |path: &str| {
            let average = State::Average(path).to_string();
            of.params().any(|p| p.0 == average).then_some(average)
        };
        let program = stages.last().on_other_params(kept);
        Ok(Evaluation { session: Session::sharing(&program, device, options.budget, of)? })
    }

    /// Bytes it allocated.
    pub fn bytes(&self) -> usize {
        self.session.bytes()
    }

    /// Operations of the products of one batch, counted in its program.
    pub fn flops(&self) -> f64 {
        self.session.program().work().flops
    }

    /// The mean loss over batches, each label counted once.
    pub fn mean_loss(&mut self, batches: impl IntoIterator<Item = Result<Batch>>) -> Result<f64> {
        let (mut total, mut count) = (0.0, 0.0);
        for batch in batches {
            batch?.fill(&mut self.session, &[])?;
            self.session.run().map_err(|e| Error(e.to_string()))?;
            let read = |name| f64::from(self.session.output(name).expect("the program has a loss").f32s()[0]);
            total += read(LOSS_SUM);
            count += read(LOSS_COUNT);
        }
        Ok(total / f64::max(count, 1.0))
    }
}
