//! The coordinate check: how far a few steps move what a model says, at one rate and several widths (Yang et al. 2022, appendix D.1).

use super::Trainer;
use super::ahead::batch;
use crate::error::{Error, Result};
use crate::objective::Mode;
use passes::{Goal, Options, compile};
use runtime::{Device, Session};

impl Trainer {
    /// The root mean square of how logits of the first batch have changed, after each of so many steps on it at the highest rate.
    pub fn coordinates(&mut self, steps: u64, device: Device, options: &Options) -> Result<Vec<f64>> {
        let t = self.config.train.clone();
        let graph = self.config.objective().bound(&self.config.model, Mode::Evaluate, t.batch, t.context)?.keep_outputs(&["logits"]);
        let stages = compile(&graph, Goal::Results, options)?;
        let mut said = Session::sharing_whole(stages.last(), device, options.budget, self.step.session())?;
        self.data.batch(t.seed, 0, t.batch, t.context)?.fill(&mut said, &[])?;
        let mut logits = || -> Result<Vec<f32>> {
            said.run().map_err(|e| Error(e.to_string()))?;
            Ok(said.output("logits").expect("the program has logits").f32s().to_vec())
        };
        let first = logits()?;
        let mut all = vec![];
        for _ in 0..steps {
            self.step.take_at(&batch(&self.data, &t, 0)?, t.lr)?;
            let squares: f64 = logits()?.iter().zip(&first).map(|(now, then)| f64::from(now - then).powi(2)).sum();
            all.push((squares / first.len() as f64).sqrt());
        }
        Ok(all)
    }
}
