//! What a policy wrote, what it was worth, and the file that keeps it.

use crate::config::Config;
use crate::data::{Batch, Data, Values, random};
use crate::decode::{Generator, Sampling};
use crate::error::{Error, Result, file_error};
use crate::files::write_file;
use crate::reward::{Answer, Reward};
use crate::text::Tokenizer;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file of what was written, in a run directory.
pub const ROLLOUTS: &str = "rollouts.jsonl";

/// An answer, as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// The step that learned from it first, from 1.
    pub step: u64,
    /// What was asked.
    pub prompt: String,
    /// What was written.
    pub text: String,
    /// What would be right.
    pub right: String,
    /// Tokens of the answer.
    pub tokens: usize,
    /// What it was worth.
    pub reward: f64,
    /// How much better than expected; of tokens that have one each, their mean.
    pub advantage: f64,
}

/// An answer in tokens.
#[derive(Clone, Debug)]
pub(super) struct Written {
    /// The tokens of the prompt.
    pub(super) prompt: Vec<i32>,
    /// Those of the answer, what ends it included.
    pub(super) answer: Vec<i32>,
    /// What it was worth.
    pub(super) reward: f64,
}

/// Prompts to answers and what they are worth.
pub(super) struct Writer {
    config: Config,
    data: Arc<Data>,
    tokenizer: Tokenizer,
    generator: Generator,
    reward: Reward,
    /// What ends an answer; none where answers are of one length.
    end: Option<i32>,
}

/// What draws the tokens of answers, and nothing else.
const DRAWS: u64 = 0x726F_6C6C;

impl Writer {
    pub(super) fn new(config: &Config, data: Arc<Data>, tokenizer: Tokenizer, generator: Generator, reward: Reward, end: Option<i32>) -> Writer {
        Writer { config: config.clone(), data, tokenizer, generator, reward, end }
    }

    /// The answers of a step, a group to each prompt: a function of the seed, the step and the weights.
    pub(super) fn write(&mut self, step: u64) -> Result<(Vec<Written>, Vec<Answer>)> {
        let (t, p) = (&self.config.train, &self.config.policy);
        let prompts = t.step_rows() / p.group;
        let asked = self.data.documents_of(t.seed, step / p.updates * prompts as u64, prompts)?;
        let rows: Vec<&[Vec<i32>; 2]> = asked.iter().flat_map(|pair| std::iter::repeat_n(pair, p.group)).collect();
        let longest = p.longest(&self.config.data, t.context);
        let room = |prompt: &[i32]| longest.min((t.context + 1).saturating_sub(prompt.len()));
        if let Some(prompt) = rows.iter().map(|r| &r[0]).find(|prompt| room(prompt) == 0 || prompt.is_empty()) {
            let n = prompt.len();
            return Err(Error(format!("a prompt has {n} tokens, and train.context is {}: there is no room for an answer", t.context)));
        }
        let key = random(t.seed ^ DRAWS, step);
        let drawn = |row: usize| Sampling { temperature: p.temperature, seed: random(key, row as u64), ..Sampling::default() };
        let prompts: Vec<(&[i32], Sampling)> = rows.iter().enumerate().map(|(i, r)| (r[0].as_slice(), drawn(i))).collect();
        let (end, mut written) = (self.end, vec![0; rows.len()]);
        let answers = self.generator.generate_rows(&prompts, longest, &mut |choice| {
            written[choice.row] += 1;
            let over = Some(choice.token) == end || written[choice.row] >= room(prompts[choice.row].0);
            Ok(if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        let text = |ids: &[i32]| self.tokenizer.decode(ids.strip_suffix(end.as_slice()).filter(|_| end.is_some()).unwrap_or(ids));
        let one = |(pair, answer): (&&[Vec<i32>; 2], &Vec<i32>)| Answer {
            ids: [&pair[0][..], answer].concat(),
            prompt: text(&pair[0]),
            text: text(answer),
            right: text(&pair[1]),
        };
        let said: Vec<Answer> = rows.iter().zip(&answers).map(one).collect();
        let rewards = self.reward.of(&said)?;
        let written = rows.iter().zip(answers).zip(&rewards);
        Ok((written.map(|((pair, answer), reward)| Written { prompt: pair[0].clone(), answer, reward: *reward }).collect(), said))
    }

    /// Answers as rows to learn from: tokens, and what is asked, which are the answers'.
    pub(super) fn rows(&self, written: &[Written]) -> Batch {
        let context = self.config.train.context;
        let (mut ids, mut labels) = (vec![], vec![]);
        for (i, w) in written.iter().enumerate() {
            let all = [&w.prompt[..], &w.answer].concat();
            let places = all.len() - 1;
            ids.extend(&all[..places]);
            labels.extend((1..=places).map(|at| if at < w.prompt.len() { -100 } else { all[at] }));
            ids.resize((i + 1) * context, 0);
            labels.resize((i + 1) * context, -100);
        }
        let shape = [written.len(), context];
        Batch::default().with("input_ids", &shape, Values::I32(ids)).with("labels", &shape, Values::I32(labels))
    }
}

impl Written {
    /// Where the answer's tokens are asked, in the row.
    pub(super) fn places(&self) -> std::ops::Range<usize> {
        let first = self.prompt.len() - 1;
        first..first + self.answer.len()
    }
}

/// What was written, open for more.
pub(super) struct Kept {
    path: PathBuf,
    file: File,
}

impl Kept {
    /// Cuts it back to the steps that are done.
    pub(super) fn open(dir: &Path, done: u64) -> Result<Kept> {
        let path = dir.join(ROLLOUTS);
        let before: String = if done > 0 && path.is_file() {
            let kept = rollouts(dir)?.into_iter().filter(|r| r.step <= done);
            kept.map(|r| serde_json::to_string(&r).expect("it has a JSON form") + "\n").collect()
        } else {
            String::new()
        };
        write_file(&path, before.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path).map_err(|e| file_error(&path, "what was written cannot be kept", e))?;
        Ok(Kept { path, file })
    }

    pub(super) fn write(&mut self, rollouts: &[Rollout]) -> Result<()> {
        let lines: String = rollouts.iter().map(|r| serde_json::to_string(r).expect("it has a JSON form") + "\n").collect();
        self.file.write_all(lines.as_bytes()).map_err(|e| file_error(&self.path, "what was written cannot be kept", e))
    }
}

/// All that a run's policy wrote, in order. A last line that is cut, of a process that died, is left away.
pub fn rollouts(dir: &Path) -> Result<Vec<Rollout>> {
    let path = dir.join(ROLLOUTS);
    let fail = |why: String| file_error(&path, "what was written cannot be read", why);
    let file = File::open(&path).map_err(|e| fail(format!("{e}; eggcorn grpo and eggcorn ppo keep it")))?;
    let lines: Vec<String> = BufReader::new(file).lines().collect::<std::io::Result<_>>().map_err(|e| fail(e.to_string()))?;
    let mut all = vec![];
    for (i, line) in lines.iter().enumerate() {
        match serde_json::from_str(line) {
            Ok(rollout) => all.push(rollout),
            Err(_) if i + 1 == lines.len() => {}
            Err(e) => return Err(fail(format!("line {}: {e}", i + 1))),
        }
    }
    Ok(all)
}
