//! What programs look at beside a loss: sums and counts, added up over batches.

use ir::names::{is_seen, seen};
use runtime::Session;

/// Sums and counts by name, in the order of a program's results.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(Vec<(String, [f64; 2])>);

impl Seen {
    /// Adds what a session has found, but for results of these names, which somebody else reads.
    pub(crate) fn add(&mut self, session: &Session, others: &[&str]) {
        for (name, _) in session.program().outputs.iter().filter(|(name, ty)| is_seen(name) && ty.is_scalar() && !others.contains(&name.as_str())) {
            let Some(what) = seen(name) else { continue };
            let found = f64::from(session.output(name).expect("the program has it").f32s()[0]);
            let place = self.0.iter().position(|(other, _)| other == what).unwrap_or_else(|| {
                self.0.push((what.into(), [0.0; 2]));
                self.0.len() - 1
            });
            self.0[place].1[usize::from(name.ends_with(".count"))] += found;
        }
    }

    /// The mean of each that was counted at all, as people call it.
    pub(crate) fn means(&self) -> Vec<(String, f64)> {
        let counted = self.0.iter().filter(|(_, [_, count])| *count > 0.0);
        counted.map(|(name, [sum, count])| (name.replace('_', " "), sum / count)).collect()
    }
}
