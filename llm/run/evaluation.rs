//! The loss on text that is held out, with the weights as they are now and nothing dropped.

use super::confusion::Confusion;
use crate::config::Config;
use crate::data::Batch;
use crate::error::{Error, Result};
use crate::objective::{CONFUSION, EXACT, Mode, Objective, SENTENCE};
use crate::seen::Seen;
use crate::weights::averaged;
use ir::names::LOSS;
use passes::{Goal, Options, compile};
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
        let forward = Objective::configured(config, Mode::Evaluate, t.batch, t.context)?;
        let stages = compile(&forward, Goal::Results, options)?;
        let program = averaged(stages.last(), of);
        Ok(Evaluation { session: Session::sharing_whole(&program, device, options.budget, of)? })
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
        Ok(self.judge(batches)?.loss)
    }

    /// The same, and what else the program looks at.
    pub fn judge(&mut self, batches: impl IntoIterator<Item = Result<Batch>>) -> Result<Judged> {
        let (mut loss, mut exact, mut sentence) = ([0.0; 2], [0.0; 2], [0.0; 2]);
        let (mut classes, mut seen) = (Confusion::default(), Seen::default());
        for batch in batches {
            batch?.fill(&mut self.session, &[])?;
            self.session.run().map_err(|e| Error(e.to_string()))?;
            let read = |name: &str| self.session.output(name).map(|block| f64::from(block.f32s()[0]));
            for (total, names) in [(&mut loss, LOSS), (&mut exact, EXACT), (&mut sentence, SENTENCE)] {
                names.iter().zip(total).for_each(|(name, total)| *total += read(name).unwrap_or(0.0));
            }
            seen.add(&self.session, &[EXACT, SENTENCE].concat());
            if let Some(block) = self.session.output(CONFUSION) {
                classes.add(block.f32s());
            }
        }
        let mean = |[sum, count]: [f64; 2]| sum / f64::max(count, 1.0);
        let of = |both: [f64; 2]| (both[1] > 0.0).then(|| mean(both));
        let sentence = of(sentence);
        let classes = (classes.count() > 0).then_some(classes);
        Ok(Judged { loss: mean(loss) + sentence.unwrap_or(0.0), exact: of(exact), sentence, classes, seen: seen.means() })
    }
}

/// What was found of batches.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The mean loss of a label; with [`sentence`](Self::sentence), where there is that.
    pub loss: f64,
    /// The mean loss of guessing if a sentence follows another.
    pub sentence: Option<f64>,
    /// The share of rows that greedy writing gets wholly right, where rows are texts and their answers.
    pub exact: Option<f64>,
    /// How often texts of each class were taken for each, where that is asked.
    pub classes: Option<Confusion>,
    /// The means of what else is looked at, by name.
    pub seen: Vec<(String, f64)>,
}
