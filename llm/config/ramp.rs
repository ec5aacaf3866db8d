//! Steps that begin small: fewer micro-batches, shorter rows.

use super::TrainConfig;
use models::check::within;
use passes::ACCUMULATE_MAX;
use serde::{Deserialize, Serialize};

/// What steps are before a step; what is not said is as in all that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ramp {
    /// The step, counted from 0, from which on something else counts.
    pub until: u64,
    /// Micro-batches a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accumulate: Option<u32>,
    /// Tokens a row: the first of each row are read, and the others are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
}

/// How large a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Micro-batches.
    pub accumulate: u32,
    /// Tokens a row.
    pub context: usize,
}

impl TrainConfig {
    /// How large a step is, counted from 0.
    pub fn size(&self, step: u64) -> Size {
        self.sized(self.ramp.iter().find(|r| step < r.until))
    }

    fn sized(&self, ramp: Option<&Ramp>) -> Size {
        let accumulate = ramp.and_then(|r| r.accumulate).unwrap_or(self.accumulate);
        Size { accumulate, context: ramp.and_then(|r| r.context).unwrap_or(self.context) }
    }

    /// Tokens of a step.
    pub fn tokens(&self, step: u64) -> u64 {
        let Size { accumulate, context } = self.size(step);
        (self.batch * context) as u64 * u64::from(accumulate)
    }

    /// Tokens of all steps before one.
    pub fn tokens_before(&self, step: u64) -> u64 {
        self.before(step, |size| (self.batch * size.context) as u64 * u64::from(size.accumulate))
    }

    /// The sum of something of a size over all steps before one.
    fn before(&self, step: u64, of: impl Fn(Size) -> u64) -> u64 {
        let (mut all, mut from) = (0, 0);
        for ramp in &self.ramp {
            let until = ramp.until.min(step).max(from);
            all += (until - from) * of(self.sized(Some(ramp)));
            from = until;
        }
        all + (step - from) * of(self.sized(None))
    }

    /// Every size but the last that steps have, each once.
    pub fn smaller_sizes(&self) -> Vec<Size> {
        let (mut all, last) = (vec![], self.sized(None));
        for size in self.ramp.iter().map(|r| self.sized(Some(r))) {
            if size != last && !all.contains(&size) {
                all.push(size);
            }
        }
        all
    }

    /// Micro-batches of all steps before one.
    pub fn micro_batches(&self, step: u64) -> u64 {
        self.before(step, |size| size.accumulate.into())
    }

    /// Why the ramp is none, if it is none.
    pub(super) fn check_ramp(&self) -> Result<(), String> {
        let mut last = 0;
        for ramp in &self.ramp {
            if ramp.until <= last {
                return Err(format!("train.ramp: until = {} comes after {last}: expected steps that grow, each at least 1", ramp.until));
            }
            last = ramp.until;
            let Size { accumulate, context } = self.sized(Some(ramp));
            within("train.ramp: accumulate", accumulate, 1..=ACCUMULATE_MAX, 1)?;
            within("train.ramp: context", context, 1..=self.context, self.context)?;
        }
        Ok(())
    }
}
