//! What a policy wrote, as a table.

use super::say;
use eggcorn::llm::{Error, Result, Rollout, rollouts};
use std::path::Path;

/// Characters of a text that are shown.
const SHOWN: usize = 60;

/// Shows what was written for a step, the last unless said: the mean reward of each step so far, and each answer with its reward.
pub fn show(dir: &Path, step: Option<u64>, json: bool) -> Result<()> {
    let all = rollouts(dir)?;
    let last = all.last().map(|r| r.step).ok_or_else(|| Error(format!("{}: nothing was written yet", dir.display())))?;
    let step = step.unwrap_or(last);
    let of: Vec<&Rollout> = all.iter().filter(|r| r.step == step).collect();
    if of.is_empty() {
        let mut steps: Vec<String> = all.iter().map(|r| r.step.to_string()).collect();
        steps.dedup();
        return Err(Error(format!("{}: nothing was written for step {step}; there are {}", dir.display(), some_of(&steps))));
    }
    if json {
        of.iter().for_each(|r| say!("{}", serde_json::to_string(r).expect("it has a JSON form")));
        return Ok(());
    }
    let mean = of.iter().map(|r| r.reward).sum::<f64>() / of.len() as f64;
    let whole = all.iter().map(|r| r.reward).sum::<f64>() / all.len() as f64;
    say!("step {step}: {} answers, mean reward {mean:.4}; of all {} so far {whole:.4}\n", of.len(), all.len());
    say!("{:>8} {:>9}  prompt → answer (what would be right)", "reward", "advantage");
    for r in of {
        let right = if r.right == r.text { String::new() } else { format!("  ({})", shown(&r.right)) };
        say!("{:>8.4} {:>9.4}  {} → {}{right}", r.reward, r.advantage, shown(&r.prompt), shown(&r.text));
    }
    Ok(())
}

/// The first and the last of some.
fn some_of(all: &[String]) -> String {
    if all.len() < 8 { all.join(", ") } else { format!("{} and {} more, to {}", all[..3].join(", "), all.len() - 4, all[all.len() - 1]) }
}

/// A text in one line, its end where it is long.
fn shown(text: &str) -> String {
    let escaped: String = text.trim_end().chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect();
    let n = escaped.chars().count();
    if n <= SHOWN { escaped } else { format!("…{}", escaped.chars().skip(n - SHOWN).collect::<String>()) }
}
