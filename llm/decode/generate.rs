//! Text from a model, a token at a time, with keys and values kept.

use super::reader::Reader;
use super::sample::{Sampling, sample};
use crate::error::{Error, Result};
use crate::weights::averaged;
use models::Model;
use passes::Options;
use runtime::{Device, Session};
use std::ops::ControlFlow;

/// A model that writes: one text, or several rows at once, each with its own length.
pub struct Generator {
    reader: Reader,
}

/// A token that was written.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// The row it is of.
    pub row: usize,
    /// The token.
    pub token: i32,
    /// What the model gave for it and its rivals, before bias and penalties.
    pub logits: &'a [f32],
}

impl Generator {
    /// Compiles the program for one token. Weights are still zero.
    pub fn new(model: &Model, device: impl Into<Device>) -> Result<Generator> {
        Generator::compiled(model, device, &Options::default())
    }

    /// The same, compiled as `options` say; prices are the device's.
    pub fn compiled(model: &Model, device: impl Into<Device>, options: &Options) -> Result<Generator> {
        Generator::batched(model, device, options, 1)
    }

    /// The same for so many rows at once, at least one.
    pub fn batched(model: &Model, device: impl Into<Device>, options: &Options, rows: usize) -> Result<Generator> {
        let open = |graph: &ir::Graph, device: &Device, options: &Options, from: &[&Session]| {
            Session::sharing_all(graph, device.clone(), options.budget, from)
        };
        Ok(Generator { reader: Reader::new(model, device.into(), options, rows, &open)? })
    }

    /// As [`compiled`](Self::compiled) with the weights of a session that has them under the same paths, such as one in training: there is
    /// no second copy. Where it keeps averages of them, with those.
    pub fn sharing(model: &Model, device: impl Into<Device>, options: &Options, weights: &Session) -> Result<Generator> {
        let open = |graph: &ir::Graph, device: &Device, options: &Options, from: &[&Session]| {
            Session::sharing_all(&averaged(graph, weights), device.clone(), options.budget, &[from, &[weights]].concat())
        };
        Ok(Generator { reader: Reader::new(model, device.into(), options, 1, &open)? })
    }

    /// The same for so many rows at once, at least one, with the weights as they are, whatever averages there are.
    pub fn sharing_rows(model: &Model, device: impl Into<Device>, options: &Options, rows: usize, weights: &Session) -> Result<Generator> {
        let open = |graph: &ir::Graph, device: &Device, options: &Options, from: &[&Session]| {
            Session::sharing_all(graph, device.clone(), options.budget, &[from, &[weights]].concat())
        };
        Ok(Generator { reader: Reader::new(model, device.into(), options, rows, &open)? })
    }

    /// The session that has the weights.
    pub fn session(&self) -> &Session {
        self.reader.session()
    }

    /// The session, to fill its weights.
    pub fn session_mut(&mut self) -> &mut Session {
        self.reader.session_mut()
    }

    /// All sessions that have weights, to fill them: of a model that answers texts there is a second, the encoder's. Texts are to be given
    /// again.
    pub fn sessions_mut(&mut self) -> Vec<&mut Session> {
        self.reader.sessions_mut()
    }

    /// Gives each row the text that it answers, for a model that answers some: each is encoded once, and what rows have read is forgotten.
    pub fn answer(&mut self, texts: &[&[i32]]) -> Result<()> {
        if texts.len() != self.rows() {
            return Err(Error(format!("{} texts for {} rows: give each row its own", texts.len(), self.rows())));
        }
        self.reader.answer(texts)
    }

    /// Reads a prompt in chunks of these many tokens, which rise from 1; unless said, of 1, 16 and 256. Each size is a program, compiled
    /// when a prompt first has as many tokens.
    pub fn set_chunks(&mut self, sizes: &[usize]) -> Result<()> {
        self.reader.set_chunks(sizes)
    }

    /// The sizes of the chunks in which so many tokens are read, by what each costs a token; the last may be larger than what is left.
    pub fn chunks(&self, tokens: usize) -> Vec<usize> {
        self.reader.chunks(tokens)
    }

    /// The most tokens that are seen at once.
    pub fn context(&self) -> usize {
        self.reader.context()
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.reader.rows()
    }

    /// Forgets what was read.
    pub fn forget(&mut self) {
        self.reader.clear();
    }

    /// Reads a token of the one row; the logits of the next. When the context is full, its later half is read again, rounded down.
    pub fn read(&mut self, token: i32) -> Result<&[f32]> {
        self.read_all(&[token])
    }

    /// Reads tokens of the one row, as if one after the other; the logits of what follows the last.
    pub fn read_all(&mut self, tokens: &[i32]) -> Result<&[f32]> {
        self.read_rows(&[tokens])?;
        Ok(self.logits(0))
    }

    /// Reads further tokens of each row, of some perhaps none.
    pub fn read_rows(&mut self, tokens: &[&[i32]]) -> Result<()> {
        if tokens.len() != self.rows() {
            return Err(Error(format!("{} texts for {} rows: give each row its own", tokens.len(), self.rows())));
        }
        self.reader.read(tokens)
    }

    /// Lets each row go on from what another has read, of which this gives the numbers: a copy of all keys and values, there and back, unless
    /// each keeps its own.
    pub fn reorder(&mut self, from: &[usize]) -> Result<()> {
        if from.len() != self.rows() || from.iter().any(|r| *r >= self.rows()) {
            return Err(Error(format!("{from:?} does not name a row for each of {}", self.rows())));
        }
        self.reader.reorder(from)
    }

    /// The logits of what follows the last token of a row.
    pub fn logits(&self, row: usize) -> &[f32] {
        self.reader.logits(row)
    }

    /// Writes up to `n` tokens after a prompt in the one row, calling `show` with each as it comes, until it breaks off. Of a prompt longer
    /// than the context the last part is read, as much as the context holds. What was read before is forgotten.
    pub fn generate(
        &mut self,
        prompt: &[i32],
        n: usize,
        sampling: &Sampling,
        show: &mut dyn FnMut(Choice) -> Result<ControlFlow<()>>,
    ) -> Result<Vec<i32>> {
        Ok(self.generate_rows(&[(prompt, sampling.clone())], n, show)?.swap_remove(0))
    }

    /// Writes up to `n` tokens after each row's prompt, as its sampling says: what [`generate`](Self::generate) would write alone. `show`
    /// gets each token as it comes, and breaks its row off.
    pub fn generate_rows(
        &mut self,
        rows: &[(&[i32], Sampling)],
        n: usize,
        show: &mut dyn FnMut(Choice) -> Result<ControlFlow<()>>,
    ) -> Result<Vec<Vec<i32>>> {
        if rows.iter().any(|r| r.0.is_empty()) {
            return Err(Error("the prompt is empty: give at least one character".into()));
        }
        self.forget();
        let context = self.context();
        let mut texts: Vec<Vec<i32>> = rows.iter().map(|r| r.0.to_vec()).collect();
        let mut next: Vec<Vec<i32>> = rows.iter().map(|r| r.0[r.0.len().saturating_sub(context)..].to_vec()).collect();
        for i in 0..n {
            let open: Vec<usize> = (0..rows.len()).filter(|row| !next[*row].is_empty()).collect();
            if open.is_empty() {
                break;
            }
            self.read_rows(&next.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
            next.fill(vec![]);
            for row in open {
                let token = sample(self.logits(row), &rows[row].1, &texts[row], i as u64)?;
                texts[row].push(token);
                if show(Choice { row, token, logits: self.logits(row) })?.is_continue() {
                    next[row].push(token);
                }
            }
        }
        Ok(texts.into_iter().zip(rows).map(|(text, row)| text[row.0.len()..].to_vec()).collect())
    }
}
