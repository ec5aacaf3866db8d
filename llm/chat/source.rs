//! Conversations as what a run reads: split in the file's order, cut to the rows there are.

use super::encode::Chat;
use super::records::{Conversation, records_of};
use super::template::Template;
use crate::config::{Asked, Config};
use crate::data::{Marks, Piece, Source, Task, Unit, pairs_talk, preferences_talk, preferred};
use crate::error::{Error, Result};
use crate::text::Tokenizer;
use std::fmt;

/// Conversations of each part, in the file's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// For training.
    pub train: Vec<Conversation>,
    /// Neither trained on nor looked at.
    pub test: Vec<Conversation>,
    /// For evaluation.
    pub held_out: Vec<Conversation>,
}

/// What became of conversations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Conversations to train on, to leave, and held out.
    pub conversations: [usize; 3],
    /// Tokens to train on, and those of them that are asked.
    pub tokens: [usize; 2],
    /// Conversations that were cut at the end of a row.
    pub cut: usize,
    /// Those that were left away, for no answer begins before that.
    pub dropped: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let ([train, test, held_out], [tokens, asked]) = (self.conversations, self.tokens);
        let share = 100.0 * asked as f64 / tokens.max(1) as f64;
        write!(f, "{train} conversations to train on, {tokens} tokens of which {asked} are asked ({share:.1} %); {held_out} held out")?;
        if test > 0 {
            write!(f, ", {test} left for tests")?;
        }
        if self.cut + self.dropped > 0 {
            write!(f, "; {} cut at the end of a row, {} left away that no answer begins in: try a larger train.context", self.cut, self.dropped)?;
        }
        Ok(())
    }
}

impl Parts {
    /// The conversations of lines as [`lines`](super::lines) writes them: the first for training, then those that are left, the last held out. One
    /// without the system's words gets those of the configuration.
    pub fn of(lines: &str, config: &Config) -> Result<Parts> {
        let all: Vec<Conversation> = records_of(lines)?.into_iter().map(|c| c.with_system(&config.chat.system)).collect();
        // shares are written in tenths and hundredths, which have no binary form
        let count = |share: f64| (all.len() as f64 * share + 1e-6) as usize;
        let (first, test) = (count(1.0 - config.data.held_out - config.chat.test), count(config.chat.test));
        let parts = Parts { train: all[..first].to_vec(), test: all[first..first + test].to_vec(), held_out: all[first + test..].to_vec() };
        if parts.train.is_empty() || parts.held_out.is_empty() {
            let (n, held_out, test) = (all.len(), config.data.held_out, config.chat.test);
            return Err(Error(format!(
                "of {n} conversations {} are to be trained on and {} held out, expected at least one each: data.held_out is {held_out} and chat.test {test}; \
                 use more, or try data.held_out = 0.5",
                parts.train.len(),
                parts.held_out.len()
            )));
        }
        Ok(parts)
    }

    /// What a run reads of them, and what became of them.
    pub fn source(&self, name: &str, config: &Config, tokenizer: &Tokenizer, template: &Template) -> Result<(Source, Counts)> {
        let chat = Chat::new(template, tokenizer);
        let mut counts = Counts { conversations: [self.train.len(), self.test.len(), self.held_out.len()], ..Counts::default() };
        let part = |all: &[Conversation], counts: &mut Counts| -> Result<Vec<Piece>> {
            let mut pieces = vec![];
            for conversation in all {
                let mut piece = chat.encode(conversation, config.chat.asked == Asked::All)?.piece;
                if config.chat.asked == Asked::Answers && piece.count() + 1 >= piece.ids.len() {
                    return Err(Error(format!(
                        "{}: every token of the conversation is trained, and the answers alone are to be: the template marks all of it",
                        conversation.place
                    )));
                }
                let long = piece.ids.len() > config.train.context + 1;
                piece.truncate(config.train.context + 1);
                if piece.count() == 0 {
                    counts.dropped += 1;
                    continue;
                }
                counts.cut += usize::from(long);
                pieces.push(piece);
            }
            match pieces.is_empty() {
                true => Err(Error(format!("{name}: no answer begins within train.context = {} tokens: try a larger one", config.train.context))),
                false => Ok(pieces),
            }
        };
        let (train, held_out) = (part(&self.train, &mut counts)?, part(&self.held_out, &mut counts)?);
        counts.tokens = [train.iter().map(|p| p.ids.len()).sum(), train.iter().map(Piece::count).sum()];
        Ok((Source::marked(name, &train, &held_out).with_marks(Marks::of(tokenizer)), counts))
    }
}

/// Whether lines as a file is read to are conversations, which a template makes texts of.
pub fn talk(lines: &str, config: &Config) -> bool {
    match config.data.documents {
        _ if config.data.task != Task::None => false,
        Unit::Chat => true,
        Unit::Pairs => pairs_talk(lines),
        Unit::Preferences => preferences_talk(lines),
        Unit::Text | Unit::Lines | Unit::Classes => false,
    }
}

/// The text that a tokenizer is learned from: conversations as the template writes them, without its special tokens.
pub fn contents(lines: &str, config: &Config, template: &Template) -> Result<String> {
    let mut all = String::new();
    let conversations = if config.data.documents == Unit::Preferences { preferred(lines, config) } else { records_of(lines)? };
    for conversation in conversations {
        let mut text = template.text(&conversation.with_system(&config.chat.system).messages, false)?;
        template.specials().iter().for_each(|special| text = text.replace(special.as_str(), "\n"));
        all.push_str(&text);
        all.push('\n');
    }
    Ok(all)
}
