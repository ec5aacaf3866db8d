//! A model that says what a text is worth.

use super::Answer;
use crate::config::Models;
use crate::error::{Error, Result};
use crate::hub::Directory;
use crate::objective::{parameters, reward_program};
use crate::text::Tokenizer;
use crate::weights::load_weights;
use passes::{Goal, Options, compile};
use runtime::{Device, Session};
use std::path::Path;

/// A model of rewards, and the program that asks it of so many texts at once.
pub struct RewardModel {
    session: Session,
    rows: usize,
    context: usize,
}

impl RewardModel {
    /// Reads the directory of a model that learned rewards. Its tokens must be those of the answers.
    pub fn open(
        path: &Path,
        models: &Models,
        tokenizer: &Tokenizer,
        [rows, context]: [usize; 2],
        device: &Device,
        options: &Options,
    ) -> Result<RewardModel> {
        let directory = Directory::open(path, models)?;
        let fail = |why: &str| Error(format!("policy.reward_model: {}: {why}", path.display()));
        if directory.tokenizer()?.is_some_and(|t| t.fingerprint() != tokenizer.fingerprint()) {
            return Err(fail("its tokens are not the policy's; begin both with the same model"));
        }
        let tensors = directory.tensors()?;
        if !tensors.contains("score.weight") {
            return Err(fail("it has no head of rewards, score.weight; make one with eggcorn reward"));
        }
        if directory.model().context() < context {
            return Err(fail(&format!(
                "it reads {} tokens at most, and answers have up to {context} with their prompts",
                directory.model().context()
            )));
        }
        let graph = reward_program(directory.model())?.bind(&|s| match s {
            'B' => Some(rows as u64),
            'T' => Some(context as u64),
            _ => None,
        })?;
        let mut session = Session::within(compile(&graph, Goal::Results, options)?.last(), device.clone(), options.budget)?;
        // files may have the head that guesses tokens, too
        for (name, ty) in parameters(directory.model())?.iter().filter(|(name, ty)| tensors.has(name, ty)) {
            tensors.check(name, ty)?;
        }
        load_weights(&mut [&mut session], &tensors, &|_| true)?;
        Ok(RewardModel { session, rows, context })
    }

    /// What each text is worth. What is too long loses its beginning.
    pub fn of(&mut self, answers: &[Answer]) -> Result<Vec<f64>> {
        let mut all = vec![];
        for some in answers.chunks(self.rows) {
            let texts: Vec<&[i32]> = some.iter().map(|a| &a.ids[a.ids.len().saturating_sub(self.context)..]).collect();
            let filled = |of: &dyn Fn(i32) -> i32| -> Vec<i32> {
                let one = |row: usize, i: usize| texts.get(row).and_then(|t| t.get(i)).map_or(0, |id| of(*id));
                (0..self.rows).flat_map(|row| (0..self.context).map(move |i| (row, i))).map(|(row, i)| one(row, i)).collect()
            };
            self.session.set_i32("input_ids", &filled(&|id| id))?;
            self.session.set_i32("attention_mask", &filled(&|_| 1))?;
            self.session.run().map_err(|e| Error(e.to_string()))?;
            let rewards = self.session.output("reward").expect("the program has it").f32s();
            all.extend(rewards[..some.len()].iter().map(|r| f64::from(*r)));
        }
        Ok(all)
    }
}
