//! What is said of classes when a run ends.

use super::corpus::Classes;
use super::view::View;
use eggcorn::llm::{Result, Trainer};

/// Looks at the texts that nothing was learned from and nothing chosen by, and says how many are taken for what they are.
pub fn finish(trainer: &mut Trainer, mut texts: Classes, view: &mut View) -> Result<()> {
    let Some(test) = texts.test() else { return Ok(()) };
    if let Some(found) = trainer.judge_other(test)?.classes {
        view.last_words(&format!("test accuracy: {:.2} % of {} texts\n", 100.0 * found.accuracy(), found.count()));
    }
    Ok(())
}
