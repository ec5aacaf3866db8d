//! The texts that rows answer: each is encoded once, and what layers keep of it is there for every token that is written.

use super::reader::{Open, Program};
use crate::error::{Error, Result};
use models::{Kind, Model};
use passes::{Goal, Options, compile};
use runtime::{Device, Session};

/// Tokens that the first program reads: there is one for each power of two up to what a text has.
const FIRST: usize = 16;

/// Texts, one a row, and the programs that encode them.
pub(super) struct Sources {
    /// Programs by the tokens they read. The first has the encoder's weights, over the memory of the program that writes.
    programs: Vec<Program>,
    /// Tokens there is room for.
    room: usize,
    texts: Vec<Vec<i32>>,
    /// 1 where a row's text has a token, of all that there is room for.
    mask: Vec<i32>,
}

impl Sources {
    /// Compiles the first program of a model that answers texts; others have none. `one` is the program that writes.
    pub(super) fn open(model: &Model, device: &Device, options: &Options, rows: usize, open: Open, one: &Session) -> Result<Option<Sources>> {
        if model.kind() != Kind::EncoderDecoder {
            return Ok(None);
        }
        let room = model.source_cache().iter().map(|kept| kept.length).min().unwrap_or(model.context());
        let tokens = FIRST.min(room);
        let session = open(&program(model, options, rows, tokens)?, device, options, &[one])?;
        Ok(Some(Sources { programs: vec![Program { tokens, session }], room, texts: vec![vec![]; rows], mask: vec![0; rows * room] }))
    }

    /// The session that has the encoder's weights, to change: nothing is encoded any more.
    pub(super) fn session_mut(&mut self) -> &mut Session {
        self.programs.truncate(1);
        self.texts.fill(vec![]);
        &mut self.programs[0].session
    }

    /// Encodes a text for each row; those that are there already cost nothing.
    pub(super) fn read(&mut self, model: &Model, device: &Device, options: &Options, texts: &[&[i32]]) -> Result<()> {
        let longest = texts.iter().map(|t| t.len()).max().unwrap_or(0);
        if longest > self.room || texts.iter().any(|t| t.is_empty()) {
            return Err(Error(format!("a text that is answered has 1 to {} tokens, and here is one of {longest}: give another", self.room)));
        }
        if texts.iter().copied().eq(self.texts.iter().map(Vec::as_slice)) {
            return Ok(());
        }
        let tokens = longest.next_power_of_two().clamp(FIRST.min(self.room), self.room);
        if self.programs.iter().all(|p| p.tokens != tokens) {
            let graph = program(model, options, texts.len(), tokens)?;
            let session = Session::sharing(&graph, device.clone(), options.budget, &self.programs[0].session)?;
            self.programs.push(Program { tokens, session });
        }
        let session = &mut self.programs.iter_mut().find(|p| p.tokens == tokens).expect("it was just made").session;
        let filled = |length: usize, of: &dyn Fn(&[i32], usize) -> i32| -> Vec<i32> {
            texts.iter().flat_map(|text| (0..length).map(|i| if i < text.len() { of(text, i) } else { 0 })).collect()
        };
        session.set_i32("input_ids", &filled(tokens, &|text, i| text[i]))?;
        session.set_i32("attention_mask", &filled(tokens, &|_, _| 1))?;
        session.run().map_err(|e| Error(e.to_string()))?;
        self.mask = filled(self.room, &|_, _| 1);
        self.texts = texts.iter().map(|t| t.to_vec()).collect();
        Ok(())
    }

    /// 1 where a row's text has a token: what the program that writes is given.
    pub(super) fn mask(&self) -> Result<&[i32]> {
        if self.texts.iter().any(Vec::is_empty) {
            return Err(Error("the model answers a text, and none was given: give one to answer first".into()));
        }
        Ok(&self.mask)
    }

    /// Whether each row answers the same text as the one of a number.
    pub(super) fn alike(&self, from: &[usize]) -> bool {
        from.iter().enumerate().all(|(row, other)| self.texts[row] == self.texts[*other])
    }
}

/// The optimised program that encodes so many tokens of each of so many rows.
fn program(model: &Model, options: &Options, rows: usize, tokens: usize) -> Result<ir::Graph> {
    let size = |s: char| match s {
        'B' => Some(rows as u64),
        'S' => Some(tokens as u64),
        _ => None,
    };
    let graph = model.encode_graph()?.bind(&size)?;
    Ok(compile(&graph, Goal::Results, options)?.last().clone())
}
