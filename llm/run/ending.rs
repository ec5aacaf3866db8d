//! Why a run ends before its last step: its time is over, or it learns nothing more.

use crate::config::TrainConfig;
use std::time::{Duration, Instant};

/// What a run has had of time, and how its evaluations went.
pub(super) struct Ending {
    start: Instant,
    limit: Option<Duration>,
    patience: u64,
    best: f64,
    /// Evaluations since the best.
    since: u64,
}

impl Ending {
    /// Begins now, and with no evaluation.
    pub fn new(train: &TrainConfig) -> Ending {
        let limit = (train.time_limit > 0.0).then(|| Duration::from_secs_f64(60.0 * train.time_limit));
        Ending { start: Instant::now(), limit, patience: train.patience, best: f64::INFINITY, since: 0 }
    }

    /// Takes notice of an evaluation.
    pub fn evaluated(&mut self, loss: f64) {
        if loss < self.best {
            (self.best, self.since) = (loss, 0);
        } else {
            self.since += 1;
        }
    }

    /// Why it ends now, if it does.
    pub fn why(&self) -> Option<String> {
        if self.limit.is_some_and(|limit| self.start.elapsed() >= limit) {
            return Some("train.time_limit is over".into());
        }
        let stuck = self.patience > 0 && self.since >= self.patience;
        stuck.then(|| format!("the held-out loss has not fallen below {:.4} in {} evaluations, train.patience", self.best, self.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_of_evaluations_in_a_row() {
        let mut ending = Ending::new(&TrainConfig { patience: 2, ..TrainConfig::default() });
        let ends = [3.0, 2.0, 2.5, 1.9, 1.9, f64::NAN].map(|loss| {
            ending.evaluated(loss);
            ending.why().is_some()
        });
        assert_eq!(ends, [false, false, false, false, false, true]);
        let mut never = Ending::new(&TrainConfig::default());
        (0..99).for_each(|_| never.evaluated(1.0));
        assert_eq!(never.why(), None);
        let over = Ending::new(&TrainConfig { time_limit: 1e-9, ..TrainConfig::default() });
        std::thread::sleep(Duration::from_millis(1));
        assert!(over.why().unwrap().contains("time_limit"));
    }
}
