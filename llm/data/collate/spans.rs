//! Spans that are hidden behind sentinels, and asked as an answer (Raffel et al. 2020, §3.1.4; its program's `random_spans_noise_mask`).

use super::{Collator, Draws, Filled};
use crate::config::ObjectiveConfig;

/// Tokens of a text that are hidden, and in how many spans.
fn noise(config: &ObjectiveConfig, tokens: usize) -> (usize, usize) {
    if tokens < 2 {
        return (0, 0);
    }
    let noise = ((tokens as f64 * config.noise_density).round() as usize).clamp(1, tokens - 1);
    let spans = ((noise as f64 / config.mean_span).round() as usize).clamp(1, noise.min(tokens - noise));
    (noise, spans)
}

/// Tokens of the source and of the target of a text, with what ends each.
fn lengths(config: &ObjectiveConfig, tokens: usize) -> [usize; 2] {
    let (noise, spans) = noise(config, tokens);
    [tokens - noise + spans + 1, noise + spans + 1]
}

/// The most tokens whose source has room in `context`, and whose target in as many as are set.
pub(super) fn places(of: &Collator, context: usize) -> usize {
    let target = if of.config.target == 0 { usize::MAX } else { of.config.target };
    let sentinels = of.marks.sentinels.len();
    let fits = |tokens: usize| {
        let [source, answer] = lengths(&of.config, tokens);
        source <= context && answer <= target && noise(&of.config, tokens).1 <= sentinels
    };
    (1..).take_while(|tokens| fits(*tokens)).last().unwrap_or(1)
}

/// Sentinels that the fullest source needs.
pub(super) fn sentinels(config: &ObjectiveConfig, context: usize) -> usize {
    noise(config, fullest(config, context)).1.max(1)
}

/// Tokens of the longest text whose source has room.
fn fullest(config: &ObjectiveConfig, context: usize) -> usize {
    (1..).take_while(|tokens| lengths(config, *tokens)[0] <= context).last().unwrap_or(1)
}

/// Tokens that targets have room for where it is not set: what the fullest source needs.
pub(super) fn target(config: &ObjectiveConfig, context: usize) -> usize {
    (1..=fullest(config, context)).map(|n| lengths(config, n)[1]).max().unwrap_or(1)
}

/// Source and target of a text.
pub(super) fn row(of: &Collator, pieces: &[Vec<i32>], key: u64) -> Filled {
    let tokens = pieces.concat();
    let mut draws = Draws::new(key);
    let (noise, spans) = noise(&of.config, tokens.len());
    // what stays and what is hidden take turns, and what stays begins
    let (stay, hidden) = (parts(&mut draws, tokens.len() - noise, spans), parts(&mut draws, noise, spans));
    let (mut source, mut target, mut at) = (vec![], vec![], 0);
    for (i, (stay, hidden)) in stay.into_iter().zip(hidden).enumerate() {
        source.extend(&tokens[at..at + stay]);
        source.push(of.marks.sentinels[i]);
        target.push(of.marks.sentinels[i]);
        target.extend(&tokens[at + stay..at + stay + hidden]);
        at += stay + hidden;
    }
    source.extend(&tokens[at..]);
    let end = of.marks.end.or(of.marks.separator);
    source.extend(end);
    target.extend(end);
    super::answer::columns(of, source, target)
}

/// A number as a sum of so many that are at least 1, each such sum as likely as any other.
fn parts(draws: &mut Draws, sum: usize, count: usize) -> Vec<usize> {
    if count == 0 {
        return vec![];
    }
    let cuts = draws.some_of(count - 1, sum - 1);
    let ends = cuts.iter().map(|c| c + 1).chain([sum]);
    let mut before = 0;
    ends.map(|end| end - std::mem::replace(&mut before, end)).collect()
}
